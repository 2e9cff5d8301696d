"""The paper's tables from reports of `evaluate`: rows with figures, rows that say what they need, runs."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.paper_tables import figure, main, read_reports
from kontext_slider.evaluate.results import STRENGTHS

CURVE = {f"efficientnet_{strength:.2f}": strength for strength in STRENGTHS}


def write(folder, decibels: dict[str, list[float]], name: str = "edits.csv", **facts):
    """A report with these dB to the truth, a method's edits in one order."""
    folder.mkdir(parents=True)
    lines = [
        {"method": method, "edit": f"edit {n}", **facts, "truth_psnr": value, "delta_smooth_efficientnet": 0.1, **CURVE}
        for method, values in decibels.items()
        for n, value in enumerate(values)
    ]
    with open(folder / name, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return folder


SYSTEMS = {"ours": [33.0, 35.0], "pixel-cross-fade": [30.0, 34.0], "cfg-scale": [29.0, 30.0], "new": [20.0, 20.0]}


@pytest.fixture
def tables(tmp_path):
    """A report of both: (page, figures). The slider "full" was trained three times."""
    runs = {f"full, run {n}": [31.0 + n, 33.0 + n] for n in (1, 2, 3)}
    systems = write(tmp_path / "systems", {**SYSTEMS, "new + anchor": [25.0, 26.0]})
    main([str(systems), str(write(tmp_path / "sliders", runs)), "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.md").read_text()
    return page, json.loads((tmp_path / "out" / "figures.json").read_text())


def row(page: str, name: str) -> str:
    return next(line for line in page.splitlines() if f"(`{name}`)" in line)


def test_the_gain_is_paired_by_edit(tables):
    """The difference of two means has the spread of the edits in it, which is larger than any gain."""
    page, figures = tables
    assert figures["slider_gain_over_crossfade_db"] == 2 and "| 2 ± 1 |" in row(page, "ours")
    assert figures["slider_gain_over_crossfade_db_interval"] == [1, 3]


def test_trainings_of_one_slider_are_one_row_with_an_interval_over_them(tables):
    """Intervals over edits, where the difference may be the seed of the training."""
    page, _ = tables
    assert "34 ± 2.5 over 3 runs" in row(page, "full") and "run 1" not in page.split("## In one line")[0]
    assert "no claim" not in page


def test_a_system_without_a_report_says_what_it_needs(tables):
    """A row that is left out looks like one that nobody thought of."""
    page, _ = tables
    assert "needs Stable Diffusion 2.1" in row(page, "free-morph") and "0.365 / 0.189" in row(page, "free-morph")


def test_every_method_has_a_row_and_with_the_anchor_another(tables):
    """A new baseline that is in no table."""
    page, _ = tables
    last = page.split("## Table 3")[1]
    assert "(`new`)" in last and "(`new + anchor`)" in last and last.count("(`new") == 2


@pytest.mark.parametrize("values", [{"ours": [33.0]}, {"ours": [33.0, 1.0, 2.0]}])
def test_reports_of_different_edits_are_not_one_table(tmp_path, values):
    """Rows of other edits beside each other, each a few dB apart for that alone."""
    folders = [write(tmp_path / "a", SYSTEMS), write(tmp_path / "b", values)]
    with pytest.raises(InvalidInput, match="has other edits or measures than"):
        read_reports(folders)


def test_a_folder_without_a_report_is_named(tmp_path):
    """A traceback of a file that is not there."""
    with pytest.raises(InvalidInput, match="holds no report"):
        read_reports([tmp_path])


def test_what_was_not_measured_is_a_dash():
    """NaN in a table."""
    assert figure(np.full((1, 3), np.nan)) == "-"
