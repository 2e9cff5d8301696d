"""PIE-Bench in shares: a killed run goes on, shares make the whole, and what was made by something else is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines import ours
from kontext_slider.evaluate.pie_bench import PieSetup
from kontext_slider.evaluate.pie_run import PieRun, measure_pie_bench, measured_edits
from kontext_slider.metrics.distances import rms
from tests.evaluate.pie import original_folder, picture
from tests.tiny import tiny_pipeline

METHODS = {"ours": "the tiny slider", "fade": "a fade to black"}
TIMEOUT = 120


def fade(pipe, image, instruction, strengths, seed):
    source = np.asarray(image, dtype=np.float32) / 255
    return [source * (1 - strength) for strength in strengths]


def make(number: int, seed: int = 0) -> PieSetup:
    return PieSetup(tiny_pipeline(seed), {"ours": ours, "fade": fade}, lambda pictures: {"rms": rms(pictures)})


def forbidden(number: int) -> PieSetup:
    pytest.fail("a model was loaded though everything is measured")


def run_in(folder: Path, **changes) -> PieRun:
    settings = {"methods": METHODS, "seed": 0, "facts": {"rulers": ["rms"]}, **changes}
    return PieRun(folder / "run", folder / "pie", **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    original_folder(folder / "pie")
    run = run_in(folder)
    measure_pie_bench(run, make)
    return run


def lines_of(run: PieRun) -> list[dict]:
    return [json.loads(line) for path in sorted(run.folder.glob("*/*.jsonl")) for line in path.read_text().splitlines()]


def assert_same_edits(run: PieRun, whole: PieRun) -> None:
    """All edits by all methods, up to what another number of threads rounds."""
    for one, other in zip(measured_edits(run), measured_edits(whole), strict=True):
        assert one.facts == other.facts and list(one.results) == list(other.results) == list(METHODS)
        for name in METHODS:
            assert one.results[name].curves["rms"] == pytest.approx(other.results[name].curves["rms"], abs=1e-3)


def stopped_before_the_second_edit(folder: str) -> None:
    """Run in a process that is killed: measures the first edit, says so in a file, and waits."""

    def waits(pipe, image, instruction, strengths, seed):
        if run_in(Path(folder)).results():
            (Path(folder) / "waits").touch()
            time.sleep(TIMEOUT)
        return ours(pipe, image, instruction, strengths, seed)

    setup = make(0)
    measure_pie_bench(
        run_in(Path(folder)), lambda number: PieSetup(setup.pipe, {**setup.methods, "ours": waits}, setup.rulers)
    )


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(tmp_path, whole, monkeypatch):
    """Days of work on PIE-Bench were kept in memory until the report: one kill, and all of it was lost."""
    original_folder(tmp_path / "pie")
    code = f"from tests.evaluate.test_pie_run import *; stopped_before_the_second_edit({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        end = time.monotonic() + TIMEOUT
        while not (tmp_path / "waits").exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    run = run_in(tmp_path)
    (path,) = run.folder.glob("0-of-1/*.jsonl")
    assert [(line["id"], line["method"]) for line in lines_of(run)] == [("000", "ours"), ("000", "fade")]
    path.write_bytes(path.read_bytes() + b'{"id": "002", "method": "ours", "made')  # a kill in the middle of a line
    asked: list[str] = []
    noted = "kontext_slider.evaluate.pie_run.measure_case"
    from kontext_slider.evaluate.pie_bench import measure_case

    monkeypatch.setattr(noted, lambda setup, case, *rest: asked.append(case.id) or measure_case(setup, case, *rest))
    measure_pie_bench(run, make)
    assert asked == ["002"]
    assert_same_edits(run, whole)


def test_shares_of_several_machines_make_the_whole(tmp_path, whole):
    """Machines that each had all of PIE-Bench, or a merge that leaves one out without a word."""
    original_folder(tmp_path / "pie")
    run = run_in(tmp_path)
    measure_pie_bench(run, make, share=(1, 2))
    assert {line["id"] for line in lines_of(run)} == {"002"}
    with pytest.raises(InvalidInput, match="lacks 1 of 2 edits by 'ours', 1 of 2 edits by 'fade'.*without --share"):
        measured_edits(run)
    measure_pie_bench(run, make, share=(0, 2))
    measure_pie_bench(run, forbidden)
    assert measured_edits(run) == measured_edits(whole) and len(lines_of(run)) == 4


@pytest.mark.slow
def test_processes_share_the_edits(tmp_path, whole):
    """An edit that no process takes, or that two do."""
    original_folder(tmp_path / "pie")
    run = run_in(tmp_path)
    measure_pie_bench(run, make, num_processes=2)
    assert len(lines_of(run)) == 4 and len(list(run.folder.glob("0-of-1/*.jsonl"))) == 2
    assert_same_edits(run, whole)


def test_a_method_may_be_added_later(tmp_path):
    """FreeMorph after a week of the others: all of them were measured again."""
    original_folder(tmp_path / "pie")
    measure_pie_bench(run_in(tmp_path, methods={"ours": METHODS["ours"]}), make)
    measure_pie_bench(run_in(tmp_path), make)
    assert [line["method"] for line in lines_of(run_in(tmp_path))] == ["ours", "ours", "fade", "fade"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, r"another seed \(0, not 1\)"),
        ({"facts": {"rulers": ["ssim"]}}, "another rulers"),
        ({"methods": {"ours": "another slider", "fade": METHODS["fade"]}}, "'ours' was the tiny slider, and now it is"),
    ],
)
def test_other_settings_are_refused_in_the_folder_of_a_run(whole, changes, words):
    """Half the edits by one seed and half by another make a table of nothing."""
    run = PieRun(whole.folder, whole.bench, **{"methods": METHODS, "seed": 0, "facts": whole.facts, **changes})
    with pytest.raises(InvalidInput, match=words):
        measure_pie_bench(run, forbidden)


def test_other_weights_are_refused_in_the_folder_of_a_run(tmp_path):
    """The model's folder has the same name after it was trained further."""
    original_folder(tmp_path / "pie")
    measure_pie_bench(run_in(tmp_path), make, share=(0, 2))
    with pytest.raises(InvalidInput, match="another model"):
        measure_pie_bench(run_in(tmp_path), lambda number: make(number, seed=1))


def test_other_pictures_are_refused_in_the_folder_of_a_run(tmp_path):
    """A download that was mended has the same words, and half the edits would be of the damaged pictures."""
    place = original_folder(tmp_path / "pie") / "annotation_images" / "0" / "2.png"
    measure_pie_bench(run_in(tmp_path), make, share=(0, 2))
    picture(5).save(place)
    with pytest.raises(InvalidInput, match="another edits"):
        measure_pie_bench(run_in(tmp_path), forbidden)


def test_a_folder_without_edits_of_the_paper_is_said(tmp_path):
    """Means of nothing, after a model was loaded."""
    (original_folder(tmp_path / "pie") / "mapping_file.json").write_text("{}")
    with pytest.raises(InvalidInput, match="Download all of it"):
        measure_pie_bench(run_in(tmp_path), forbidden)


def test_damage_is_found_before_a_model_is_loaded(tmp_path):
    """Edit 539 of 540 was damaged, and hours were over before that was seen."""
    (original_folder(tmp_path / "pie") / "annotation_images" / "0" / "2.png").unlink()
    with pytest.raises(InvalidInput, match="'002'"):
        measure_pie_bench(run_in(tmp_path), forbidden)
