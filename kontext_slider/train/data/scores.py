"""How good a strip is: its distances (paper, section 3.1 and appendix A.2), and the thresholds that it must meet.

Thresholds belong to a distance. Those for LPIPS are the paper's, by category; they live on the scale of its authors'
release, whose VGG network was fed pictures in [0, 1]. Those for SSIM are quantiles of synthetic edits (`calibrated`).

Legend: N + 1 frames y_0 .. y_N between source and edit; d a distance of `metrics.distances`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import entropy
from tqdm import tqdm

from kontext_slider.base_edit import coded
from kontext_slider.metrics import Picture, to_picture
from kontext_slider.metrics.distances import Distance, Matrix
from kontext_slider.metrics.trajectory import TINY, second_order
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.recipe import Rejected
from kontext_slider.world.cases import Case
from kontext_slider.world.edits import EDITS

NO_EDIT, UNLIKE, UNEVEN = "the edit does too little", "the reconstruction is another picture", "uneven steps"
SHARE = 0.02  # of synthetic edits, that a calibrated threshold leaves out


@dataclass(frozen=True)
class Scores:
    """One strip's distances; the authors' names of the columns are given beside ours."""

    source_edit: float  # d(source, edit); lpips_kontext_edit
    edit_reconstruction: float  # d(edit, y_N); lpips_edit_inversion
    source_reconstruction: float  # d(source, y_0); the first of lpips_sequence
    steps: tuple[float, ...]  # d(y_k, y_k+1), N of them; the inner ones of lpips_sequence
    kl: float
    delta_smooth: float | None  # None where only neighbours were ever compared


def score_tiles(tiles: Sequence[Image.Image], distance: Distance) -> Scores:
    """Scores of source, y_0 .. y_N, edit."""
    matrix = distance([to_picture(tile) for tile in tiles])
    steps = tuple(float(step) for step in np.diagonal(matrix, 1)[1:-1])
    return Scores(
        source_edit=float(matrix[0, -1]),
        edit_reconstruction=float(matrix[-2, -1]),
        source_reconstruction=float(matrix[0, 1]),
        steps=steps,
        kl=kl_from_even(steps),
        delta_smooth=second_order(matrix[1:-1, 1:-1]),
    )


def scores_of(facts: Mapping[str, Any]) -> Scores:
    """The scores among an item's facts."""
    return Scores(**{field.name: facts[field.name] for field in fields(Scores)})


def kl_from_even(steps: Sequence[float]) -> float:
    """KL(p || uniform) of the steps' shares p, natural logarithm: 0 where all are equal, ln N where one has it all.

    ln N as well where nothing moves: such a strip shows no strength."""
    total, count = float(np.sum(steps)), len(steps)
    if total <= TINY:
        return math.log(count)
    return float(entropy(steps, np.ones(count)))


def on_release_scale(lpips: Distance) -> Distance:
    """LPIPS as the authors' release computes it: its network is fed pictures in [0, 1], not in [-1, 1]. The thresholds
    of the paper live on this scale."""

    def distance(pictures: Sequence[Picture]) -> Matrix:  # of [0.5, 1], `lpips` makes [0, 1]
        return lpips([(picture + np.float32(1)) / np.float32(2) for picture in pictures])

    return distance


@dataclass(frozen=True)
class Threshold:
    """d(source, edit) must be `least_edit` or more, d(edit, its reconstruction) `most_loss` or less."""

    least_edit: float
    most_loss: float


Thresholds = Mapping[str, Threshold]  # by category

LPIPS_THRESHOLDS: Thresholds = {
    "stylization": Threshold(0.10, 0.55),
    "environment_change": Threshold(0.10, 0.55),
    "reimagining": Threshold(0.10, 0.52),
    "appearance_change": Threshold(0.02, 0.50),
    "material_change": Threshold(0.02, 0.50),
    "attribute_change": Threshold(0.03, 0.45),
    "object_morphing": Threshold(0.03, 0.45),
}
# By `kontext-slider data thresholds --distance ssim --scenes-per-edit 8`: 320 edits at 256 px, pocket's first codec.
SSIM_THRESHOLDS: Thresholds = {
    "environment_change": Threshold(0.09, 0.28),
    "stylization": Threshold(0.05, 0.17),
    "reimagining": Threshold(0.19, 0.12),
    "attribute_change": Threshold(0.14, 0.34),
    "appearance_change": Threshold(0.05, 0.13),
    "material_change": Threshold(0.05, 0.11),
    "object_morphing": Threshold(0.18, 0.19),
}
THRESHOLDS: Mapping[str, Thresholds] = {"lpips": LPIPS_THRESHOLDS, "ssim": SSIM_THRESHOLDS}


def check_scores(scores: Scores, category: str, distance: str, max_kl: float) -> None:
    """Rejected, with the first reason that holds, for a strip that is not good enough: the edit is there, its
    reconstruction is like it, the steps are even."""
    limit = THRESHOLDS[distance][category]
    if not scores.source_edit >= limit.least_edit:
        raise Rejected(NO_EDIT, f"{scores.source_edit:.3f} from the source, at least {limit.least_edit:g} is wanted")
    if not scores.edit_reconstruction <= limit.most_loss:
        raise Rejected(UNLIKE, f"{scores.edit_reconstruction:.3f} from the edit, at most {limit.most_loss:g} is wanted")
    if not scores.kl <= max_kl:
        raise Rejected(UNEVEN, f"KL {scores.kl:.3f}, at most {max_kl:g} is wanted")


@dataclass(frozen=True)
class Drawn:
    """Distances of one synthetic edit: by the codec alone, of the full edit, and of its last step."""

    codec: float
    edit: float
    last_step: float


def measure_drawn(
    pipe: KontextSliderPipeline, cases: Iterable[Case], distance: Distance, num_steps: int
) -> dict[str, list[Drawn]]:
    """Synthetic edits, which are right for certain, put through the model's codec; by category."""
    groups: dict[str, list[Drawn]] = {}
    for case in tqdm(list(cases), unit="edit", leave=False):
        full, before = case.truth(1.0), case.truth((num_steps - 1) / num_steps)
        through = [np.clip(coded(pipe, picture), 0, 1).astype(np.float32) for picture in (case.source, full)]
        matrix = distance([case.source, *through, full, before])
        drawn = Drawn(float(matrix[0, 1]), float(matrix[0, 2]), float(matrix[3, 4]))
        groups.setdefault(EDITS[case.edit].category, []).append(drawn)
    return groups


def calibrated(groups: Mapping[str, Sequence[Drawn]], share: float = SHARE) -> dict[str, Threshold]:
    """Thresholds for a distance that the paper has none for, by category.

    `least_edit`: what a `share` of the full edits stays below, but no less than what untouched sources, but for a
    `share` of them in all categories together, reach by the codec alone: an edit that changes less is none.
    `most_loss`: what the steps from strength (N - 1) / N to 1, but for a `share`, stay below: a reconstruction that is
    farther from the edit shows another strength."""
    untouched = np.quantile([drawn.codec for group in groups.values() for drawn in group], 1 - share)
    limits = {}
    for category, group in groups.items():
        edit = np.quantile([drawn.edit for drawn in group], share)
        last_step = np.quantile([drawn.last_step for drawn in group], 1 - share)
        limits[category] = Threshold(round(float(max(edit, untouched)), 2), round(float(last_step), 2))
    return limits
