"""Which strips are good enough to learn from: the edit is there, its reconstruction is it, the steps are even.

Thresholds belong to a distance. Those for LPIPS are the paper's, by category; they live on the scale of its authors'
release, whose VGG network was fed pictures in [0, 1]. Those for SSIM are quantiles of drawn edits (`calibrate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kontext_slider.errors import InvalidInput
from kontext_slider.train.data.items import Rejected
from kontext_slider.train.data.score import Scores

NO_EDIT, UNLIKE, UNEVEN = "the edit does too little", "the reconstruction is another picture", "uneven steps"


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


def find_thresholds(distance: str) -> Thresholds:
    """The thresholds for a distance. InvalidInput for one that has none."""
    if distance not in THRESHOLDS:
        raise InvalidInput(
            f"There are no thresholds for the distance '{distance}'. Choose one of: {', '.join(THRESHOLDS)}."
        )
    return THRESHOLDS[distance]


def check(scores: Scores, category: str, thresholds: Thresholds, max_kl: float) -> None:
    """Rejected, with the first reason that holds, for a strip that is not good enough."""
    limit = thresholds[category]
    if not scores.source_edit >= limit.least_edit:
        raise Rejected(NO_EDIT, f"{scores.source_edit:.3f} from the source, at least {limit.least_edit:g} is wanted")
    if not scores.edit_reconstruction <= limit.most_loss:
        raise Rejected(UNLIKE, f"{scores.edit_reconstruction:.3f} from the edit, at most {limit.most_loss:g} is wanted")
    if not scores.kl <= max_kl:
        raise Rejected(UNEVEN, f"KL {scores.kl:.3f}, at most {max_kl:g} is wanted")
