"""Which morph is best? On pocket the picture at every strength is known, so this can be measured, not judged.

Every morpher gets the same held-out sources and the model's own full edits, and is compared with the ground truth. The
truth is measured like a morpher, in the last row: what an ideal morph would score on smoothness.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import Distance, psnr
from kontext_slider.morph import Morpher
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.scores import score_tiles
from kontext_slider.train.data.stages import full_edit
from kontext_slider.world.cases import Case

TRUTH = "ground truth"


@dataclass(frozen=True)
class Row:
    """One morph of one edit."""

    psnr_inside: float  # dB to the truth, mean over strengths 1/N .. (N-1)/N
    psnr_at_0: float  # dB to the source
    psnr_at_1: float  # dB to the full truth; the model's own edit is no nearer
    delta_smooth: float | None
    kl: float
    kept: bool  # by the smoothness filter
    seconds: float  # for the whole strip


def measure_morphers(
    pipe: KontextSliderPipeline,
    cases: Iterable[Case],
    morphers: Mapping[str, Morpher],
    strengths: Sequence[float],
    distance: Distance,
    seed: int,
    max_kl: float,
) -> dict[str, list[Row]]:
    """Name of a morpher -> a row per case, the nearest to the truth first."""
    results: dict[str, list[Row]] = {name: [] for name in (*morphers, TRUTH)}
    for case in tqdm(list(cases), unit="edit", leave=False):
        source = to_image(case.source)
        edited = full_edit(pipe, source, case.instruction, seed)
        truths = [to_image(case.truth(strength)) for strength in strengths]
        for name, morpher in morphers.items():
            began = time.perf_counter()
            frames = morpher(pipe, source, edited, case.instruction, strengths, seed)
            seconds = time.perf_counter() - began
            results[name].append(_row([source, *frames, edited], truths, distance, max_kl, seconds))
        results[TRUTH].append(_row([source, *truths, truths[-1]], truths, distance, max_kl, 0.0))
    return dict(sorted(results.items(), key=lambda item: -np.mean([row.psnr_inside for row in item[1]])))


def _row(tiles: list[Image.Image], truths: list[Image.Image], distance: Distance, max_kl: float, seconds: float) -> Row:
    pairs = zip(tiles[1:-1], truths, strict=True)
    decibels = [psnr(to_picture(frame), to_picture(truth)) for frame, truth in pairs]
    scores, inside = score_tiles(tiles, distance), float(np.mean(decibels[1:-1]))
    return Row(inside, decibels[0], decibels[-1], scores.delta_smooth, scores.kl, scores.kl <= max_kl, seconds)
