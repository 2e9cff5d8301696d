"""What every report is written with: means and tables by ruler, a Markdown page with its plots, curves, a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate.plots import plot_curves
from kontext_slider.evaluate.results import (
    STRENGTHS,
    MeasuredEdit,
    Result,
    measures_of,
    rulers_of,
    smoothness_by,
)
from kontext_slider.features import FITTED
from kontext_slider.metrics.statistics import cell, columns, markdown, means
from kontext_slider.metrics.trajectory import Smoothness


def row_figures(edits: Sequence[MeasuredEdit], row: str) -> dict[str, Any]:
    """A row's means: measures and the smoothness by the first ruler flat, by each ruler under "by_ruler"."""
    by_ruler = {ruler: means(smoothness_by(edits, row, ruler)) for ruler in rulers_of(edits)}
    return {**means(measures_of(edits, row)), **by_ruler[rulers_of(edits)[0]], "by_ruler": by_ruler}


def smoothness_tables(edits: Sequence[MeasuredEdit], rows: Sequence[str]) -> list[str]:
    """Markdown: for each measure of smoothness, the rows by every ruler."""
    rulers = rulers_of(edits)
    heads = [f"{ruler} (fitted to)" if ruler in FITTED else ruler for ruler in rulers]
    found = {row: [columns(smoothness_by(edits, row, ruler)) for ruler in rulers] for row in rows}
    tables = []
    for measure in fields(Smoothness):
        lines = [(row, *(cell(values[measure.name]) for values in by_ruler)) for row, by_ruler in found.items()]
        tables.append(markdown((measure.name.replace("_", " "), *heads), lines))
    return tables


def write_page(path: Path, parts: Sequence[str], plots: Sequence[str] = ()) -> None:
    """Paragraphs, then plots by their file names."""
    path.write_text("\n\n".join([*parts, *(f"![{name}]({name})" for name in plots)]) + "\n", encoding="utf-8")


def write_curves(
    edits: Sequence[MeasuredEdit], titles: Mapping[str, str], folder: Path, emphasis: str, prefix: str = ""
) -> list[str]:
    """A plot of the means of each curve that was measured and has a title; returns the file names."""
    names = []
    for curve, title in titles.items():
        rows = [row for row, result in edits[0].results.items() if curve in result.curves]
        lines = {row: np.mean([edit.results[row].curves[curve] for edit in edits], axis=0) for row in rows}
        if lines:
            names.append(plot_curves(lines, title, folder / f"{prefix}{curve}.png", emphasis))
    return names


def write_csv(edits: Sequence[MeasuredEdit], path: Path) -> None:
    """A line for each method and edit: what it is, its measures, its smoothness by every ruler, its curves."""
    lines = [{"method": row, **edit.facts, **_numbers(edit.results[row])} for row in edits[0].results for edit in edits]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _numbers(result: Result) -> dict[str, float | None]:
    smoothness = {
        f"{name}_{ruler}": value for ruler, row in result.smoothness.items() for name, value in asdict(row).items()
    }
    curves = {
        f"{curve}_{s:.2f}": value
        for curve, values in result.curves.items()
        for s, value in zip(STRENGTHS, values, strict=True)
    }
    return {**asdict(result.measures), **smoothness, **curves}
