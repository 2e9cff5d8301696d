"""A comparison of many edits keeps what is measured, and measures what is missing or made by something else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate import compare_run
from kontext_slider.evaluate.compare import measure_edit
from kontext_slider.evaluate.compare_run import CompareRun, compare_all
from kontext_slider.evaluate.rows import Setup
from kontext_slider.images import read_image
from kontext_slider.metrics.distances import rms
from kontext_slider.run_folder import alone_in
from tests.tiny import tiny_pipeline

TIMEOUT = 120


def rulers(pictures):
    return {"rms": rms(pictures)}


def make(seed: int = 0) -> Setup:
    return Setup(tiny_pipeline(seed), rulers)


def run_in(folder: Path, **changes) -> CompareRun:
    return replace(CompareRun(folder, num_edits=2, seeds=(100,), num_strips=1, facts={"rulers": ["rms"]}), **changes)


@pytest.fixture
def asked(monkeypatch):
    """The edits that are measured."""
    edits: list[tuple[str, int]] = []

    def measure(setup, case, seed, strip):
        edits.append((case.edit, seed))
        return measure_edit(setup, case, seed, strip)

    monkeypatch.setattr(compare_run, "measure_edit", measure)
    return edits


def stopped_at_the_second_edit(folder: str) -> None:
    """Run in a process that is killed: measures the first edit, says so in a file, and waits."""

    def measure(setup, case, seed, strip):
        if list(Path(folder).glob("edits/*.jsonl")):
            (Path(folder) / "waits").touch()
            time.sleep(TIMEOUT)
        return measure_edit(setup, case, seed, strip)

    compare_run.measure_edit = measure
    compare_all(run_in(Path(folder)), make)


def test_a_killed_comparison_goes_on_and_ends_as_one_that_was_not(tmp_path, asked):
    """Twenty-four edits with every baseline take half an hour, and were all measured again."""
    whole = compare_all(run_in(tmp_path / "whole"), make)
    asked.clear()
    code = f"from tests.evaluate.test_compare_run import *; stopped_at_the_second_edit({str(tmp_path / 'run')!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + TIMEOUT
        while not (tmp_path / "run" / "waits").exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (path,) = (tmp_path / "run" / "edits").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"made_by": "')  # a kill in the middle of a line
    resumed = compare_all(run_in(tmp_path / "run"), make)
    assert asked == [(whole.edits[1].facts["edit"], 100)]
    assert resumed.strips == whole.strips and resumed.rows == whole.rows
    for one, other in zip(resumed.edits, whole.edits, strict=True):
        assert one.facts == other.facts and list(one.results) == list(other.results)
        for row, result in one.results.items():
            assert vars(result.measures) == pytest.approx(vars(other.results[row].measures), abs=1e-2)


def test_what_is_kept_reads_back_as_it_was(tmp_path, asked):
    """A figure that is rounded on the way, and a report that says other things after a kill."""
    first = compare_all(run_in(tmp_path), make)
    asked.clear()
    assert compare_all(run_in(tmp_path), make) == first and not asked


@pytest.mark.parametrize(
    "change",
    [{"facts": {"rulers": ["ssim"]}}, "other weights", "other code", {"facts": {"methods": {"ours": "other"}}}],
)
def test_results_of_something_else_are_not_taken(tmp_path, asked, monkeypatch, change):
    """Yesterday's figures in today's table, because they lay in the folder."""
    compare_all(run_in(tmp_path), make)
    asked.clear()
    if change == "other code":
        monkeypatch.setattr(compare_run, "code_sha256", lambda: "other")
    changes = change if isinstance(change, dict) else {}
    compare_all(run_in(tmp_path, **changes), lambda: make(seed=change == "other weights"))
    assert len(asked) == 2


def test_more_edits_and_strips_measure_what_is_missing(tmp_path, asked):
    """A run of four edits is the beginning of one of eight. An edit whose frames are asked for later is done again."""
    compare_all(run_in(tmp_path, num_strips=0), make)
    assert not list(tmp_path.glob("strip-*"))
    asked.clear()
    found = compare_all(run_in(tmp_path, num_edits=3, num_strips=1), make)
    assert [edit for edit, _ in asked] == [found.edits[n].facts["edit"] for n in (0, 2)]
    (strip,) = found.strips
    assert read_image(tmp_path / strip).width > 300
    lines = [json.loads(line) for line in (tmp_path / "edits" / "process-0.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 0, 2]


def test_strips_are_spread_over_the_edits_of_the_first_seed(tmp_path):
    """The first four edits are all of the sky."""
    for num_strips, expected in ((4, [0, 25, 50, 75]), (0, []), (200, list(range(100)))):
        tasks = run_in(tmp_path, num_edits=100, seeds=(3, 4), num_strips=num_strips).tasks()
        assert [number for number, (_, _, strip) in enumerate(tasks) if strip] == expected
        assert [seed for seed, _, _ in tasks] == [3] * 100 + [4] * 100


def test_two_comparisons_do_not_work_in_one_folder(tmp_path):
    """Both measured every edit, and one report had the strips of the other."""
    with alone_in(run_in(tmp_path).edits), pytest.raises(InvalidInput, match="Another run is at work"):
        compare_all(run_in(tmp_path), lambda: pytest.fail("a model was loaded"))
