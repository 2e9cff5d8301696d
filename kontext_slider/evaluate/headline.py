"""The headline: what a row adds to the cross-fade of source and the same base's edit, in dB to the truth.

The anchor alone is that cross-fade (`anchor.py`), and a base model's edit needs no slider. So this difference, paired
by edit, is what the slider itself is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kontext_slider.evaluate.compare import Comparison
from kontext_slider.evaluate.results import MeasuredEdit, rulers_of, smoothness_by
from kontext_slider.evaluate.rows import CEILING, CROSS_FADE, OURS
from kontext_slider.features import FITTED
from kontext_slider.metrics.statistics import interval, markdown

ALL = "all edits"
GROUPS = {ALL: ("object", "whole picture"), "objects": ("object",), "whole pictures": ("whole picture",)}


@dataclass(frozen=True)
class Gain:
    """The mean of a difference, paired by edit, with its bootstrap interval at 95 % over edits."""

    mean: float
    low: float
    high: float
    num_edits: int

    def __str__(self) -> str:
        span = f"{self.low:+.2f} to {self.high:+.2f}" if self.num_edits > 1 else "one edit, no interval"
        return f"{self.mean:+.2f} ({span})"


def gain(edits: Sequence[MeasuredEdit], row: str) -> Gain:
    """A row's mean PSNR to the truth at strengths above 0 minus the cross-fade's, over these edits."""
    return _mean([psnr_of(edit, row) - psnr_of(edit, CROSS_FADE) for edit in edits])


def roughness(edits: Sequence[MeasuredEdit], row: str) -> dict[str, Gain]:
    """A row's delta_smooth minus the ground truth's own (through the codec), by ruler; below 0 it is smoother."""
    found = {}
    for ruler in rulers_of(edits):
        pairs = zip(smoothness_by(edits, row, ruler), smoothness_by(edits, CEILING, ruler), strict=True)
        found[ruler] = _mean([ours.delta_smooth - truth.delta_smooth for ours, truth in pairs])
    return found


def _mean(differences: Sequence[float]) -> Gain:
    values = np.array(differences, dtype=np.float64)
    low, high = interval(values)
    return Gain(round(float(values.mean()), 3), round(low, 3), round(high, 3), len(values))


def psnr_of(edit: MeasuredEdit, row: str) -> float:
    return edit.results[row].measures.truth_psnr


def gains(edits: Sequence[MeasuredEdit], row: str) -> dict[str, Gain]:
    """By group of GROUPS, without those that have no edits."""
    chosen = {name: [edit for edit in edits if edit.facts["kind"] in kinds] for name, kinds in GROUPS.items()}
    return {name: gain(group, row) for name, group in chosen.items() if group}


def headline_figures(comparison: Comparison) -> dict[str, Any]:
    """`slider_gain_over_crossfade_db` with its interval, and the gains of every row by group."""
    mean = gain(comparison.edits, OURS)
    rows = {row: gains(comparison.edits, row) for row in comparison.rows.all}
    return {
        "slider_gain_over_crossfade_db": mean.mean,
        "slider_gain_over_crossfade_db_interval": [mean.low, mean.high],
        "delta_smooth_minus_truth": {ruler: asdict(each) for ruler, each in roughness(comparison.edits, OURS).items()},
        "gain_over_crossfade_db": {
            row: {name: asdict(gain) for name, gain in groups.items()} for row, groups in rows.items()
        },
    }


def headline(comparison: Comparison) -> str:
    """The first lines of the report: what the slider adds, and for which models that says something."""
    found = gains(comparison.edits, OURS)
    groups = [f"{name} {gain}" for name, gain in found.items() if name != ALL]
    text = (
        f"**Gain of the slider over the cross-fade of the same base's edit, in dB to the ground truth: {found[ALL]}**, "
        f"{found[ALL].num_edits} edits; {', '.join(groups)}. In brackets: 95 % by bootstrap, paired by edit."
    )
    rough = [f"{each} by {ruler}" for ruler, each in roughness(comparison.edits, OURS).items() if ruler not in FITTED]
    if rough:
        text += f" Its delta_smooth minus the ground truth's own: {', '.join(rough)}; below 0 it is the smoother one."
    if comparison.anchored:
        text += (
            " This model's frames are held to the source by an anchor, and its slider is trained with it. FLUX.1 "
            "Kontext with the released weights has no anchor, so these figures say nothing of it."
        )
    return text


def gain_table(comparison: Comparison, rows: Sequence[str]) -> str:
    """Markdown: the gains of rows, by group."""
    names = list(gains(comparison.edits, OURS))
    found = [(row, gains(comparison.edits, row)) for row in rows]
    lines = [(row, *(str(groups[name]) for name in names)) for row, groups in found]
    return markdown(("dB over the cross-fade", *names), lines)
