"""Means of measures over edits, with bootstrap intervals at 95 %, as numbers and as Markdown.

Rows are dataclasses of one kind, whose fields are measures; a measure that a row does not have is None there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, t

Values = NDArray[np.float64]


def columns(rows: Sequence[Any]) -> dict[str, Values]:
    """Every measure's values, without those that are None; no measures where there are no rows."""
    names = [field.name for field in fields(rows[0])] if rows else []
    found = {name: [value for row in rows if (value := getattr(row, name)) is not None] for name in names}
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def means(rows: Sequence[Any]) -> dict[str, float]:
    """The mean of every measure over the rows that have it."""
    return {name: round(float(values.mean()), 4) for name, values in columns(rows).items() if len(values)}


def half_widths(rows: Sequence[Any]) -> dict[str, float]:
    """Half the width of every mean's interval."""
    return {name: round(half_width(values), 4) for name, values in columns(rows).items() if len(values)}


def interval(values: Values, num_draws: int = 2000) -> tuple[float, float]:
    """Bootstrap interval of the mean at 95 %, by percentiles; a single value is its own."""
    if len(values) < 2:
        return float(values[0]), float(values[0])
    drawn = bootstrap((values,), np.mean, n_resamples=num_draws, method="percentile", rng=np.random.default_rng(0))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def interval_over_runs(means: Sequence[float]) -> tuple[float, float]:
    """Interval at 95 % of the mean of a few runs, each a mean itself, by Student's t; two runs or more."""
    values = np.array(means, dtype=np.float64)
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return round(float(values.mean()) - half, 4), round(float(values.mean()) + half, 4)


def half_width(values: Values) -> float:
    low, high = interval(values)
    return (high - low) / 2


def table(groups: Mapping[str, Sequence[Any]], names: Sequence[str] = (), head: str = "method") -> str:
    """Markdown: one row per group of rows, mean and half the width of its interval; `names` chooses measures."""
    found = {group: columns(rows) for group, rows in groups.items()}
    chosen = names or list(next(iter(found.values())))
    lines = [(group, *(cell(values[name]) for name in chosen)) for group, values in found.items()]
    return markdown((head, *(name.replace("_", " ") for name in chosen)), lines)


def markdown(heads: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (heads, ["---"] * len(heads), *rows))


def cell(values: Values) -> str:
    """`mean ± half width`, or a dash for none."""
    return f"{_short(values.mean(), 3)} ± {_short(half_width(values), 2)}" if len(values) else "-"


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if abs(value) >= 5e-5 else "0"


def paired(ours: Sequence[Any], other: Sequence[Any], name: str) -> str:
    """The other minus ours of one measure, edit by edit, as a cell."""
    pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(ours, other, strict=True)]
    return cell(np.array([b - a for a, b in pairs if a is not None and b is not None], dtype=np.float64))
