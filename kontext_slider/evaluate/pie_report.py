"""What is written of PIE-Bench: a Markdown page with tables, a CSV file, curves, and the means as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate.pages import row_figures, smoothness_tables, write_csv, write_curves, write_page
from kontext_slider.evaluate.results import STRENGTHS, MeasuredEdit, measures_of, rulers_of
from kontext_slider.evaluate.rows import OURS
from kontext_slider.metrics.statistics import half_widths, markdown, table
from kontext_slider.variants import VARIANTS


def pie_figures(edits: Sequence[MeasuredEdit]) -> dict[str, Any]:
    """The means of ours, flat, and of the others under "rivals"; each with its identity curve (None without CLIP)."""
    rows = {row: {**row_figures(edits, row), "identity": identity(edits, row)} for row in edits[0].results}
    return {
        **rows.pop(OURS),
        "distance": rulers_of(edits)[0],
        "num_edits": len(edits),
        "intervals": half_widths(measures_of(edits, OURS)),
        "rivals": rows,
    }


def identity(edits: Sequence[MeasuredEdit], row: str) -> list[float] | None:
    """The mean of a method's identity curves, at STRENGTHS."""
    curves = [edit.results[row].curves.get("identity", []) for edit in edits]
    return np.mean(curves, axis=0).round(4).tolist() or None


def write_pie_report(edits: Sequence[MeasuredEdit], folder: Path, command: str) -> None:
    """`pie-bench.md`, `pie-bench.csv`, plots of the progress and, with CLIP, one of the identity."""
    titles = {
        ruler: f"Distance to the source ({ruler}), as a share of the last frame's" for ruler in rulers_of(edits)
    } | {"identity": "CLIP similarity to the source"}
    kinds: dict[str, list[MeasuredEdit]] = {}
    for edit in edits:
        kinds.setdefault(edit.facts["kind"], []).append(edit)
    rows = list(edits[0].results)
    identities = {row: curve for row in rows if (curve := identity(edits, row))}
    parts = [
        "# Sliders on PIE-Bench",
        f"`{command}`",
        f"{len(edits)} edits; means with half the width of their bootstrap intervals at 95 %.",
        table({row: measures_of(edits, row) for row in rows}),
        *smoothness_tables(edits, rows),
        *_identity_table(identities),
        *(f"- {row}: {VARIANTS[row]}" for row in rows if row in VARIANTS),
        "## Ours, type by type",
        table({kind: measures_of(group, OURS) for kind, group in kinds.items()}, head="type"),
    ]
    write_csv(edits, folder / "pie-bench.csv")
    write_page(folder / "pie-bench.md", parts, write_curves(edits, titles, folder, OURS, "pie-"))


def _identity_table(identities: Mapping[str, Sequence[float]]) -> list[str]:
    """Markdown: CLIP similarity to the source by strength; nothing without CLIP."""
    heads = ("identity (CLIP similarity to the source)", *(f"{strength:.2f}" for strength in STRENGTHS))
    lines = [(row, *(f"{value:.3f}" for value in curve)) for row, curve in identities.items()]
    return [markdown(heads, lines)] if lines else []
