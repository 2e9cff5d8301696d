"""One edit of many photographs: what is in the ZIP, what becomes a sentence, how it ends; then the page."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.files import file_sha256
from kontext_slider.images import read_image
from kontext_slider.metadata import read_metadata
from kontext_slider.ui import batch_run
from kontext_slider.ui.batch_panel import BatchData, Batches
from kontext_slider.ui.batch_run import free_name
from kontext_slider.ui.handlers import Handlers
from tests.ui.fake_engine import faded
from tests.ui.page import INSTRUCTION, READY, text_of, wait_for_text
from tests.ui.test_restore import browser_tests, drop

INPUTS = ("make it night", 3, 2, 2.5, "png", 95, False, False)


class Sender:
    """A page with a batch."""

    def __init__(self, handlers: Any, tmp_path: Path) -> None:
        self.batches = Batches(handlers, {"model": "fake"}, str(tmp_path))
        self.request: Any = SimpleNamespace(session_hash="page")

    def start(self, paths: Any, strength: Any = 0.4, inputs: tuple[Any, ...] = INPUTS) -> Any:
        event = gr.EventData(None, {"paths": paths, "strength": strength})
        return self.batches.start(event, self.request, *inputs)

    def last(self, *values: Any) -> BatchData:
        return list(self.start(*values))[-1]


@pytest.fixture
def sender(handlers, tmp_path) -> Sender:
    return Sender(handlers, tmp_path)


@pytest.fixture
def uploads(photograph) -> list[str]:
    """Three photographs, two of one name, and between them a text that is called one."""
    paths = []
    for number, name in enumerate(["a.jpg", "b.png", "notes.jpg", "a.jpg"]):
        path = Path(get_upload_folder(), f"batch-{time.time_ns()}-{number}", name)
        path.parent.mkdir(parents=True)
        if name == "notes.jpg":
            path.write_text("no picture")
        else:
            exif = Image.Exif()
            exif[0x010F] = "Camera"
            Image.open(photograph).crop((0, 0, 200 + number, 160)).save(path, exif=exif)
        paths.append(str(path))
    return paths


def test_all_are_in_the_zip_but_those_that_cannot_be_read(sender, engine, uploads):
    """One broken file of a hundred must not cost the others; two photographs of one name must not become one."""
    done = sender.last(uploads)
    assert [item.state for item in done.items] == ["done", "done", "failed", "done"]
    assert "'notes.jpg' is not an image" in done.items[2].sentence and uploads[2] not in done.items[2].sentence
    assert "3 of 4" in done.text and "1 could not" in done.text and not done.runs
    path = Path(done.file.path)
    assert path.name == "make-it-night-0.40.zip"
    with zipfile.ZipFile(path) as archive:
        names = ["a-make-it-night-0.40.png", "b-make-it-night-0.40.png", "a-make-it-night-0.40 (2).png"]
        assert archive.namelist() == [*names, "manifest.json"]
        archive.extractall(path.parent)
        manifest = json.loads(archive.read("manifest.json"))
    for name, upload in zip(names, [uploads[0], uploads[1], uploads[3]], strict=True):
        source = read_image(upload)
        assert read_image(path.parent / name).tobytes() == faded(source, 0.4).tobytes()
        facts = read_metadata(path.parent / name)
        assert facts["seed"] == 3 and facts["source_sha256"] == file_sha256(Path(upload)) and facts["model"] == "fake"
        with Image.open(path.parent / name) as saved:
            assert saved.getexif()[0x010F] == "Camera"
    assert manifest["failed"][0]["source"] == "notes.jpg" and len(manifest["pictures"]) == 3
    assert read_metadata(path)["strengths"] == [0.4], "the ZIP tells its recipe, too"
    assert [opened["seed"] for opened in engine.opened] == [3, 3, 3]


def test_progress_counts_photographs_and_steps(sender, engine, uploads):
    """Nobody waits ten minutes before a bar that stands still."""
    engine.step_seconds = 0.2
    steps = list(sender.start(uploads[:2]))
    assert any("Photograph 2 of 2, step" in step.text for step in steps)
    assert [step.fraction for step in steps] == sorted(step.fraction for step in steps)
    assert all(step.runs for step in steps[:-1]) and steps[-1].fraction == 1


def test_a_cancelled_batch_keeps_what_is_finished(sender, engine, uploads):
    """An hour's work was thrown away with the rest."""
    engine.step_seconds = 0.05
    for step in sender.start([uploads[0], uploads[1], uploads[3]]):
        if step.runs and step.items[0].state == "done":
            sender.batches.cancel(sender.request)
    assert "Cancelled: 1 of 3" in step.text and [item.state for item in step.items] == ["done", "waits", "waits"]
    with zipfile.ZipFile(step.file.path) as archive:
        assert len(archive.namelist()) == 2


def test_a_batch_whose_page_is_gone_ends(sender, engine, uploads, tmp_path):
    """It would render for an hour, for nobody."""
    engine.step_seconds = 0.05
    running = sender.start([uploads[0], uploads[1]])
    next(running)
    next(running)
    running.close()
    num_rendered = len(engine.rendered)
    time.sleep(0.3)
    assert len(engine.rendered) == num_rendered <= 1
    assert not list(tmp_path.glob("result-*/*"))
    assert sender.last(uploads[:1]).file, "and another one can begin"


def test_a_page_has_one_batch_at_a_time(sender, engine, uploads):
    """Two presses on Start would do everything twice."""
    engine.step_seconds = 0.05
    running = sender.start(uploads[:1])
    next(running)
    assert "under way" in sender.last(uploads[:1]).text
    assert list(running)[-1].file


@pytest.mark.parametrize("paths", [None, [], "x", [5], ["/etc/passwd"], ["x"] * 101])
def test_only_uploads_are_edited(sender, engine, paths):
    """A browser may send anything."""
    refused = sender.last(paths)
    assert refused.is_error and refused.text and engine.opened == []


@pytest.mark.parametrize(
    ("strength", "changes"),
    [(1.5, {}), ("x", {}), (None, {}), (0.4, {0: " "}), (0.4, {0: "x" * 501}), (0.4, {1: -1}), (0.4, {2: 10**6})],
)
def test_the_recipe_is_checked_before_anything_is_opened(sender, engine, uploads, strength, changes):
    """A hundred photographs would fail one after the other."""
    inputs = tuple(changes.get(place, value) for place, value in enumerate(INPUTS))
    assert sender.last(uploads[:1], strength, inputs).is_error and engine.opened == []


def test_limits_are_sentences(sender, uploads, monkeypatch):
    """A terabyte must not be tried."""
    monkeypatch.setattr(batch_run, "MAX_PHOTOGRAPHS", 2)
    assert "at most 2 photographs; these are 3" in sender.last(uploads[:3]).text
    monkeypatch.setattr(batch_run, "MAX_BYTES", 100)
    assert "at most" in sender.last(uploads[:2]).text
    monkeypatch.setattr(batch_run, "MAX_BYTES", 10**9)
    monkeypatch.setattr(batch_run, "MAX_ZIP_BYTES", 1)
    full = sender.last(uploads[:2])
    assert "1 photographs are left" in full.text and full.file


def test_nothing_is_offered_where_nothing_could_be_edited(sender, uploads, tmp_path):
    """An empty ZIP is no result."""
    done = sender.last([uploads[2]])
    assert done.file is None and "0 of 1" in done.text
    assert not list(tmp_path.glob("result-*/*"))


def test_the_frames_of_a_batch_are_not_urgent(uploads, pipe, tmp_path, monkeypatch):
    """A batch of a hundred photographs stopped everybody's slider for its length."""
    engine, urgent = SliderEngine(pipe), []
    claim = engine.queue.claim

    def noted(keys: Any, is_urgent: bool, check: Any) -> Any:
        urgent.append(is_urgent)
        return claim(keys, is_urgent, check)

    monkeypatch.setattr(engine.queue, "claim", noted)
    done = Sender(Handlers(engine, str(tmp_path)), tmp_path).last(uploads[:1])
    assert done.file and urgent[0] is False, "what comes later finds the frame"


def test_names_are_told_apart():
    assert free_name("a.jpg", []) == "a.jpg"
    assert free_name("a.jpg", ["a.jpg", "a (2).jpg"]) == "a (3).jpg"


@browser_tests
def test_a_batch_in_the_page(browser, address, engine, photograph, tmp_path):
    """Drop many, edit all, get one ZIP; a file that is no photograph says so on its row."""
    paths = [tmp_path / name for name in ("one.png", "two.png", "notes.txt")]
    for place, path in enumerate(paths):
        Image.open(photograph).crop((0, 0, 100 + place, 100)).save(path, "PNG")
    paths[2].write_text("no picture")
    browser.open(address, f"{READY} && document.querySelector('.batch')")
    browser.type(INSTRUCTION, "make it night")
    drop(browser, "#filmstrip", *paths)
    wait_for_text(browser, "[data-do=start]", "Edit 3 photographs")
    assert "“make it night” at strength 1.00" in text_of(browser, ".batch .recipe")
    assert browser.run("document.querySelector('#photograph img')") is None, "they are not the page's photograph"
    browser.downloads_to(tmp_path / "saved")
    browser.click("[data-do=start]")
    saved = tmp_path / "saved" / "make-it-night-1.00.zip"
    browser.wait_for_file(saved)
    wait_for_text(browser, ".batch .said", "2 of 3 photographs are edited. 1 could not be edited.")
    wait_for_text(browser, ".batch li[data-state=failed]", "is not an image")
    with zipfile.ZipFile(saved) as archive:
        assert archive.namelist() == ["one-make-it-night-1.00.jpg", "two-make-it-night-1.00.jpg", "manifest.json"]
    engine.step_seconds = 0.3
    browser.click("[data-do=start]")
    browser.wait("document.querySelector('.batch li[data-state=edits]')")
    browser.click("[data-do=cancel]")
    wait_for_text(browser, ".batch .said", "Cancelled: 0 of 3")
