"""Beyond the full edit: frames up to strength 1.5 against the truth, where an edit has one.

Three ways to get there are compared. "slider" is the model's own conditioning. "tangent" takes the offsets that the
slider has learned up to 1 and goes on along their tangent (`StrengthProjector.highest_strength` = 1). "stay" is the
frame at strength 1, which is what a slider without extrapolation shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from tqdm import tqdm

from kontext_slider.metrics import to_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import Case

STRENGTHS = (1.0, 1.25, 1.5)


@contextmanager
def trained_up_to(pipe: KontextSliderPipeline, strength: float) -> Iterator[None]:
    """As if the slider had been trained up to `strength` only."""
    assert pipe.slider_projector is not None
    before = pipe.slider_projector.config.highest_strength
    pipe.slider_projector.register_to_config(highest_strength=strength)
    try:
        yield
    finally:
        pipe.slider_projector.register_to_config(highest_strength=before)


def score_beyond(pipe: KontextSliderPipeline, cases: Sequence[Case], seed: int) -> dict[str, dict[float, float]]:
    """Mean dB to the truth of every way at STRENGTHS: {"slider": {1.0: 33.1, ...}, "tangent": ..., "stay": ...}."""
    pipe.set_progress_bar_config(disable=True)
    rows = [_score(pipe, case, seed) for case in tqdm(cases, unit="edit")]
    return {
        way: {s: round(float(np.mean([row[way][n] for row in rows])), 2) for n, s in enumerate(STRENGTHS)}
        for way in rows[0]
    }


def _score(pipe: KontextSliderPipeline, case: Case, seed: int) -> dict[str, list[float]]:
    slider = _frames(pipe, case, seed)
    with trained_up_to(pipe, 1.0):
        tangent = _frames(pipe, case, seed)
    truths = [case.truth(strength) for strength in STRENGTHS]
    ways = {"slider": slider, "tangent": tangent, "stay": [slider[0]] * len(STRENGTHS)}
    return {way: [psnr(f, truth) for f, truth in zip(frames, truths, strict=True)] for way, frames in ways.items()}


def _frames(pipe: KontextSliderPipeline, case: Case, seed: int) -> list:
    generator = torch.Generator().manual_seed(seed)
    call = {"strength": list(STRENGTHS), "generator": generator, "output_type": "np", "allow_extrapolation": True}
    return list(pipe(to_image(case.source), case.instruction, **call).images)


def table(scores: dict[str, dict[float, float]]) -> str:
    """Markdown: one row per way, dB at each strength."""
    lines = ["| | " + " | ".join(f"dB at {s:g}" for s in STRENGTHS) + " |", "|---" * (len(STRENGTHS) + 1) + "|"]
    return "\n".join(
        [*lines, *(f"| {way} | " + " | ".join(f"{v:.1f}" for v in row.values()) + " |" for way, row in scores.items())]
    )
