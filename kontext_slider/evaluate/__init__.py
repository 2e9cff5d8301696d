"""Measures of sliders on synthetic scenes (`truth`, `compare`) and on real pictures (`pie_bench`), and reports."""
