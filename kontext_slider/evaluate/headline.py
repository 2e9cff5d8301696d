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
from kontext_slider.evaluate.results import MeasuredEdit
from kontext_slider.evaluate.rows import CROSS_FADE, OURS
from kontext_slider.metrics.statistics import interval, markdown

ALL = "all edits"
GROUPS = {ALL: ("object", "whole picture"), "objects": ("object",), "whole pictures": ("whole picture",)}


@dataclass(frozen=True)
class Gain:
    """Mean dB over the cross-fade, with its bootstrap interval at 95 % over edits."""

    mean: float
    low: float
    high: float
    num_edits: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def gain(edits: Sequence[MeasuredEdit], row: str) -> Gain:
    """A row's mean PSNR to the truth at strengths above 0 minus the cross-fade's, over these edits."""
    differences = np.array([psnr_of(edit, row) - psnr_of(edit, CROSS_FADE) for edit in edits])
    low, high = interval(differences)
    return Gain(round(float(differences.mean()), 3), round(low, 3), round(high, 3), len(edits))


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
        "gain_over_crossfade_db": {
            row: {name: asdict(gain) for name, gain in groups.items()} for row, groups in rows.items()
        },
    }


def headline(comparison: Comparison) -> str:
    """The first lines of the report: what the slider adds, and for which models that says something."""
    found = gains(comparison.edits, OURS)
    parts = ", ".join(f"{gain} dB on {gain.num_edits} of {name}" for name, gain in list(found.items())[1:])
    text = (
        f"**The slider adds {found[ALL]} dB to the cross-fade of the same base's edit**, over {found[ALL].num_edits} "
        f"edits; {parts}. In brackets the interval at 95 %, by bootstrap, paired by edit."
    )
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
