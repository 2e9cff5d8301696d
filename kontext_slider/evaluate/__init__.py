"""Measures.

On synthetic scenes: `truth` (frames against the ground truth), `compare` (ours, `baselines` and ablations by every
measure). On real pictures: `pie_bench`. What they are written as: `report`, `plots`, `model_card`. The measures
themselves are in `kontext_slider.metrics`.
"""
