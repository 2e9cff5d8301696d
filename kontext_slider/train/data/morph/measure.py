"""Which morph is best? On pocket the picture at every strength is known, so this can be measured, not judged.

Every morpher gets the same held-out sources and the model's own full edits, and is compared with the ground truth. The
truth is measured like a morpher, in the last row: what an ideal morph would score on smoothness.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import Distance, psnr
from kontext_slider.metrics.statistics import markdown
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.morph import Morpher
from kontext_slider.train.data.scores import score_tiles
from kontext_slider.train.data.stages import full_edit, with_true_ends
from kontext_slider.train.data.workspace import RECONSTRUCTION, TRUE
from kontext_slider.world.cases import Case

TRUTH = "ground truth"


@dataclass(frozen=True)
class Row:
    """One morph of one edit, with one kind of ends."""

    psnr_inside: float  # dB to the truth, mean over strengths 1/N .. (N-1)/N
    psnr_at_0: float  # dB to the source
    psnr_at_1: float  # dB to the full truth; the model's own edit is no nearer
    delta_smooth: float
    kl: float
    seconds: float  # for the whole strip


def measure_morphers(
    pipe: KontextSliderPipeline,
    cases: Iterable[Case],
    morphers: Mapping[str, Morpher],
    strengths: Sequence[float],
    distance: Distance,
    seed: int,
) -> dict[tuple[str, str], list[Row]]:
    """(morpher, kind of ends) -> a row per case."""
    results: dict[tuple[str, str], list[Row]] = {}
    for case in tqdm(list(cases), unit="edit", leave=False):
        source = to_image(case.source)
        edited = full_edit(pipe, source, case.instruction, seed)
        truths = [to_image(case.truth(strength)) for strength in strengths]
        for name, morpher in morphers.items():
            began = time.perf_counter()
            frames = morpher(pipe, source, edited, case.instruction, strengths, seed)
            seconds = time.perf_counter() - began
            shown = {RECONSTRUCTION: frames, TRUE: with_true_ends(frames, strengths, source, edited)}
            for ends, pictures in shown.items():
                row = _row([source, *pictures, edited], truths, distance, seconds)
                results.setdefault((name, ends), []).append(row)
        row = _row([source, *truths, truths[-1]], truths, distance, 0.0)
        results.setdefault((TRUTH, TRUE), []).append(row)
    return results


def _row(tiles: list[Image.Image], truths: list[Image.Image], distance: Distance, seconds: float) -> Row:
    pairs = zip(tiles[1:-1], truths, strict=True)
    decibels = [psnr(to_picture(frame), to_picture(truth)) for frame, truth in pairs]
    scores = score_tiles(tiles, distance)
    assert scores.delta_smooth is not None
    inside = float(np.mean(decibels[1:-1]))
    return Row(inside, decibels[0], decibels[-1], scores.delta_smooth, scores.kl, seconds)


def table(results: Mapping[tuple[str, str], Sequence[Row]], max_kl: float) -> str:
    """Markdown: means per morpher and kind of ends, the share of strips that the smoothness filter would keep, the
    nearest to the truth first."""
    heads = ("morpher", "ends", "dB inside", "dB at 0", "dB at 1", "delta_smooth", "KL", "kept", "seconds")
    lines = []
    for key, rows in sorted(results.items(), key=lambda item: -np.mean([row.psnr_inside for row in item[1]])):
        inside, at_0, at_1, delta, kl, seconds = np.mean([astuple(row) for row in rows], axis=0)
        kept = np.mean([row.kl <= max_kl for row in rows])
        decibels = (f"{value:.2f}" for value in (inside, at_0, at_1))
        lines.append((*key, *decibels, f"{delta:.3f}", f"{kl:.4f}", f"{kept:.0%}", f"{seconds:.2f}"))
    return markdown(heads, lines)
