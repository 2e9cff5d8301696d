"""Means, intervals and differences over edits."""

from dataclasses import dataclass

import numpy as np
import pytest

from kontext_slider.metrics.statistics import half_widths, interval, means, paired, table


@dataclass(frozen=True)
class Row:
    delta_smooth: float
    leakage: float | None = None
    right_object: float | None = None


ROW = Row(0.1)


def test_intervals_are_those_of_published_reports():
    """The library draws as the former code did: to the last digit the same numbers from the same values."""
    values = np.random.default_rng(1).normal(0.5, 0.1, 40)
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    assert interval(values) == pytest.approx(tuple(np.quantile(draws, (0.025, 0.975))), abs=1e-12)
    assert interval(values[:1]) == (values[0], values[0])


def test_means_skip_what_has_no_value_and_intervals_hold_the_mean():
    """Global edits have no outside; counting them as no leakage would flatter."""
    rows = [ROW, Row(0.3, 0.2)]
    assert means(rows)["leakage"] == pytest.approx(0.2) and "right_object" not in means(rows)
    assert means(rows)["delta_smooth"] == pytest.approx(0.2)
    assert half_widths([ROW, ROW])["delta_smooth"] == 0
    values = np.linspace(0, 1, 50)
    low, high = interval(values)
    assert low < values.mean() < high and high - low < 0.3
    assert "0.2 ±" in table({"ours": rows})


def test_differences_are_taken_edit_by_edit():
    """Edits differ more than methods do: unpaired, a method that is better on every edit looks like a draw."""
    ours_rows = [Row(value) for value in (0.1, 0.5, 0.9)]
    other = [Row(row.delta_smooth + 0.1) for row in ours_rows]
    assert paired(ours_rows, other, "delta_smooth").startswith("0.1 ± ")
    assert float(paired(ours_rows, other, "delta_smooth").split("± ")[1]) < 1e-6
    assert paired(ours_rows, other, "leakage") == "-"
