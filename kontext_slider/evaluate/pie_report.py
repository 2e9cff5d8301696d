"""What is written of PIE-Bench: a Markdown page with tables, a CSV file, curves, and the means as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate.pages import row_figures, smoothness_tables, write_csv, write_curves, write_page
from kontext_slider.evaluate.results import MeasuredEdit, measures_of, rulers_of
from kontext_slider.evaluate.rows import OURS
from kontext_slider.metrics.statistics import half_widths, table


def pie_figures(edits: Sequence[MeasuredEdit]) -> dict[str, Any]:
    """The means of ours, flat, with its identity curve (None without CLIP), and of the others under "rivals"."""
    rows = {row: row_figures(edits, row) for row in edits[0].results}
    identity = [edit.results[OURS].curves.get("identity", []) for edit in edits]
    return {
        **rows.pop(OURS),
        "identity": np.mean(identity, axis=0).round(4).tolist() or None,
        "distance": rulers_of(edits)[0],
        "num_edits": len(edits),
        "intervals": half_widths(measures_of(edits, OURS)),
        "rivals": rows,
    }


def write_pie_report(edits: Sequence[MeasuredEdit], folder: Path, command: str) -> None:
    """`pie-bench.md`, `pie-bench.csv`, plots of the progress and, with CLIP, one of the identity."""
    titles = {
        ruler: f"Distance to the source ({ruler}), as a share of the last frame's" for ruler in rulers_of(edits)
    } | {"identity": "CLIP similarity to the source"}
    kinds: dict[str, list[MeasuredEdit]] = {}
    for edit in edits:
        kinds.setdefault(edit.facts["kind"], []).append(edit)
    rows = list(edits[0].results)
    parts = [
        "# Sliders on PIE-Bench",
        f"`{command}`",
        f"{len(edits)} edits; means with half the width of their bootstrap intervals at 95 %.",
        table({row: measures_of(edits, row) for row in rows}),
        *smoothness_tables(edits, rows),
        "## Ours, type by type",
        table({kind: measures_of(group, OURS) for kind, group in kinds.items()}, head="type"),
    ]
    write_csv(edits, folder / "pie-bench.csv")
    write_page(folder / "pie-bench.md", parts, write_curves(edits, titles, folder, OURS, "pie-"))
