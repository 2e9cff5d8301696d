"""Thresholds for a distance that the paper has none for, from edits that are right for certain: pocket's drawn ones.

Of each category, over held-out scenes put through the model's codec:
- `least_edit`: what 2 % of the drawn full edits stay below, but no less than what 98 % of untouched sources reach by
  the codec alone. An edit that changes less than that is none.
- `most_loss`: what 98 % of the steps from strength (N - 1) / N to 1 stay below. A reconstruction that is farther from
  the edit shows another strength.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from kontext_slider.base_edit import coded
from kontext_slider.metrics.distances import Distance
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.filter import Threshold
from kontext_slider.world.cases import Case
from kontext_slider.world.edits import EDITS

SHARE = 0.02


@dataclass(frozen=True)
class Drawn:
    """Distances of one drawn edit: by the codec alone, of the full edit, and of its last step."""

    codec: float
    edit: float
    last_step: float


def measure_drawn(
    pipe: KontextSliderPipeline, cases: Iterable[Case], distance: Distance, num_steps: int
) -> dict[str, list[Drawn]]:
    """By category."""
    groups: dict[str, list[Drawn]] = {}
    for case in tqdm(list(cases), unit="edit", leave=False):
        full, before = case.truth(1.0), case.truth((num_steps - 1) / num_steps)
        through = [np.clip(coded(pipe, picture), 0, 1).astype(np.float32) for picture in (case.source, full)]
        matrix = distance([case.source, *through, full, before])
        drawn = Drawn(float(matrix[0, 1]), float(matrix[0, 2]), float(matrix[3, 4]))
        groups.setdefault(EDITS[case.edit].category, []).append(drawn)
    return groups


def calibrated(groups: Mapping[str, Sequence[Drawn]], share: float = SHARE) -> dict[str, Threshold]:
    """The thresholds as described above; the codec's part is taken over all categories together."""
    untouched = np.quantile([drawn.codec for group in groups.values() for drawn in group], 1 - share)
    return {category: _threshold(group, float(untouched), share) for category, group in groups.items()}


def _threshold(group: Sequence[Drawn], untouched: float, share: float) -> Threshold:
    edit = float(np.quantile([drawn.edit for drawn in group], share))
    last_step = float(np.quantile([drawn.last_step for drawn in group], 1 - share))
    return Threshold(round(max(edit, untouched), 2), round(last_step, 2))
