"""The same held-out scenes at several sizes: does a model hold away from the size it was trained at?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kontext_slider.evaluate.truth import Score, score_case
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import HELD_OUT_SEED, draw_case
from kontext_slider.world.edits import EDITS

SIZES = (192, 256, 384, 512)
STRENGTHS = (0.5, 1.0)


def score_sizes(
    pipe: KontextSliderPipeline, sizes: Sequence[int] = SIZES, every: int = 4, seed: int = HELD_OUT_SEED
) -> dict[int, list[Score]]:
    """Square scenes of every `every`-th edit, the same at all sizes, at STRENGTHS."""
    pipe.set_progress_bar_config(disable=True)
    chosen = list(enumerate(EDITS.values()))[::every]
    return {
        size: [
            score
            for number, edit in chosen
            for score in score_case(pipe, draw_case(edit, np.random.default_rng((seed, number)), size), STRENGTHS, 0)
        ]
        for size in sizes
    }


def table(scores: dict[int, list[Score]]) -> str:
    """Markdown: one row per size."""
    lines = ["| pixels | dB at 0.5 | dB at 1 | codec at 1 | untouched at 1 |", "|---" * 5 + "|"]
    for size, rows in scores.items():
        half, full = ([row for row in rows if row.strength == strength] for strength in STRENGTHS)
        values = [
            [row.psnr for row in half],
            *([getattr(row, n) for row in full] for n in ("psnr", "ceiling", "untouched")),
        ]
        lines.append(f"| {size} x {size} | " + " | ".join(f"{np.mean(v):.1f}" for v in values) + " |")
    return "\n".join(lines)
