"""A saved file opens its edit again: handlers, then the page."""

from __future__ import annotations

import base64
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from kontext_slider.metadata import metadata_text, pack_map, png_text, read_metadata
from kontext_slider.ui.restore import RESTORED, Offer, Restoring
from tests.ui.page import (
    FILLED,
    INSTRUCTION,
    READY,
    STAGE,
    UPLOAD,
    browser_test,
    open_edit,
    rest_at,
    text_of,
    wait_for_text,
)
from tests.ui.test_saving import Saver, saved_file

OFFER = "#saved-file .offer"
SEED = ".seed input[type=number]"
ORIGIN = {"model": "fake"}


def browser_tests(test: Any) -> Any:
    """All marks of a browser test."""
    return functools.reduce(lambda marked, mark: mark(marked), browser_test, test)


def sent(path: Path) -> str:
    """A copy where gradio puts uploads."""
    folder = Path(get_upload_folder(), f"{path.stat().st_mtime_ns}-{path.stat().st_size}")
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.copy(path, folder)


class Restorer(Saver):
    """A visitor who adds files."""

    def __init__(self, handlers: Any) -> None:
        super().__init__(handlers)
        self.restoring = Restoring(handlers, ORIGIN)

    def add(self, path: Path | str, offer: Offer | None = None) -> tuple[Any, Any]:
        return self.restoring.arrived(gr.EventData(None, {"path": str(path)}), offer or Offer())

    def restore(self, path: str, photograph: str | None, is_answer: Any = False) -> list[dict[str, Any]]:
        event = gr.EventData(None, {"path": path, "is_answer": is_answer})
        messages = self.restoring.restore(event, photograph, 11, self.request)
        return [dict(zip(RESTORED, message, strict=True)) for message in messages]

    def another(self, path: str, serial: int) -> list[dict[str, Any]]:
        event = gr.EventData(None, {"path": path, "edit": serial})
        return [dict(zip(RESTORED, message, strict=True)) for message in self.restoring.another(event, self.request)]


@pytest.fixture
def visitor(handlers) -> Restorer:
    return Restorer(handlers)


@pytest.fixture
def photo(photograph) -> str:
    return sent(photograph)


@pytest.fixture
def saved(visitor, photo) -> str:
    """A saved picture of another visit: seed 3, 2 steps, strength 0.37."""
    visitor.edit(photo)
    path = sent(saved_file(visitor.picture(0.37)))
    visitor.opened.close()
    return path


def test_a_file_without_a_recipe_is_a_photograph(visitor, photo):
    """Whoever adds a photograph must not be asked anything."""
    assert visitor.add(photo) == (photo, Offer())


def test_a_saved_picture_is_asked_about(visitor, saved):
    """It is a photograph as well: nobody knows what its owner wants of it."""
    photograph, offer = visitor.add(saved)
    assert photograph == gr.skip() and offer.choices == ["restore", "use"] and not offer.is_due
    assert "make it night" in offer.sentence and "0.37" in offer.sentence
    assert visitor.restoring.use(gr.EventData(None, {"path": saved})) == (saved, Offer())


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4", "zip"])
def test_a_sweep_is_restored_at_once(visitor, photo, suffix):
    """An animation is no photograph."""
    visitor.edit(photo)
    path = sent(saved_file(visitor.sweep(suffix, num_frames=5)))
    assert visitor.add(path) == (gr.skip(), Offer(path=path, is_due=True))
    last = visitor.restore(path, photo)[0]
    assert last["num_frames"] == 5


def test_an_edit_opens_with_its_photograph(visitor, engine, saved, photo):
    """A saved picture was the end of its edit."""
    engine.opened.clear()
    first, *rest = visitor.restore(saved, photo)
    assert first["instruction"] == "make it night" and first["seed"] == 3 and first["steps"] == 2
    assert first["num_frames"] == 11, "what the page shows, as one picture says nothing of a strip"
    assert engine.opened == [{"instruction": "make it night", "seed": 3, "steps": 2, "guidance": 2.5}]
    assert first["saved_file"] == Offer(), "nothing differs"
    assert rest[-1]["canvas"].strength == 0.37 and rest[-1]["canvas"].edit == visitor.opened.serial
    assert all(message["photograph"] == gr.skip() for message in (first, *rest))


def test_the_photograph_is_asked_for_by_its_name(visitor, engine, saved, photo, tmp_path):
    """An edit without its photograph cannot go on, and nobody remembers which one it was."""
    engine.opened.clear()
    [asked] = visitor.restore(saved, None)
    offer = asked["saved_file"]
    assert offer.sentence == "Add photo.png to go on." and offer.waits and offer.choices == ["cancel"]
    assert asked["instruction"] == "make it night" and engine.opened == []
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(other)
    [asked] = visitor.restore(saved, sent(other))
    assert asked["saved_file"].choices == ["anyway", "cancel"] and engine.opened == []
    first, *_ = visitor.restore(saved, sent(other), is_answer=True)
    assert "not the photograph" in first["saved_file"].sentence and len(engine.opened) == 1
    assert visitor.add(photo, offer) == (photo, gr.skip()), "what was asked for is a photograph, and the page waits on"


def test_the_photograph_may_itself_carry_a_recipe(visitor, saved):
    """An edit of an edited picture asks for a picture that was saved here, and must not ask what that is."""
    visitor.edit(saved)
    second = sent(saved_file(visitor.picture(1.0, "png")))
    [asked] = visitor.restore(second, None)
    assert visitor.add(saved, asked["saved_file"]) == (saved, gr.skip())
    assert visitor.add(second, asked["saved_file"])[1].choices == ["restore", "use"]


def test_another_photograph_gets_the_edit(visitor, engine, photo, tmp_path):
    """The edit on the page counts, not words that were typed since; and there must be one."""
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64)).save(other)
    path = sent(other)
    [refused] = visitor.another(path, 1)
    assert "no longer open" in refused["saved_file"].sentence
    visitor.edit(photo, num_frames=5)
    first, *rest = visitor.another(path, visitor.opened.serial)
    assert first["photograph"] == path and first["seed"] == 3 and first["num_frames"] == 5
    assert rest[-1]["canvas"].strength is None, "the slider stays where it is"
    assert engine.opened[0] == engine.opened[1] and visitor.opened.photograph == path
    [refused] = visitor.another("/etc/passwd", visitor.opened.serial)
    assert "add it again" in refused["saved_file"].sentence


def test_hostile_files_are_sentences(visitor, photo, tmp_path):
    """A recipe can be written by anybody."""
    path = tmp_path / "evil.png"
    recipe = {"instruction": "<script>" * 100, "steps": 10**9, "seed": 0, "strengths": [1.0]}
    Image.new("RGB", (64, 64)).save(path, pnginfo=png_text(metadata_text(recipe)))
    upload = sent(path)
    photograph, offer = visitor.add(upload)
    assert photograph == gr.skip() and offer.kind == "error" and offer.choices == ["use", "cancel"]
    assert "evil.png" in offer.sentence and len(offer.sentence) < 500
    [refused] = visitor.restore(upload, photo)
    assert refused["saved_file"].kind == "error" and refused["instruction"] == gr.skip()


@pytest.mark.parametrize("path", ["/etc/passwd", "", None, 5, ["x"]])
def test_only_uploads_are_read(visitor, path):
    """A browser could ask what any file of the server holds."""
    event = gr.EventData(None, {"path": path})
    assert "add it again" in visitor.restoring.arrived(event, Offer())[1].sentence
    assert "add it again" in visitor.restoring.use(event)[1].sentence
    [refused] = visitor.restore(path, None)
    assert "add it again" in refused["saved_file"].sentence


def test_saved_files_tell_their_photograph(visitor, saved, photo):
    """By a digest: the name alone may be that of many."""
    assert len(read_metadata(saved)["source_sha256"]) == 64


def drop(browser: Any, selector: str, *paths: Path) -> None:
    """Drop files on an element, as a visitor does from a folder."""
    files = [{"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in paths]
    browser.run(f"""(() => {{
      const data = new DataTransfer();
      for (const {{ name, data: text }} of {json.dumps(files)})
        data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
      const options = {{ dataTransfer: data, bubbles: true, cancelable: true }};
      document.querySelector({selector!r}).dispatchEvent(new DragEvent("drop", options));
    }})()""")


def downloaded(browser: Any, folder: Path, button: str, name: str) -> Path:
    browser.downloads_to(folder)
    browser.click(button)
    browser.wait_for_file(folder / name)
    return folder / name


@browser_tests
def test_a_dropped_picture_opens_its_edit(browser, address, engine, photograph, tmp_path):
    """What was saved yesterday could not be changed today; a file dropped beside the box took the page away."""
    open_edit(browser, address, photograph)
    browser.click("#settings button")
    browser.wait(f"document.querySelector('{SEED}')")
    browser.click(".seed button")  # a new seed
    browser.wait(f"document.querySelector('{SEED}').value != '0'")
    seed = browser.run(f"document.querySelector('{SEED}').value")
    browser.click("#edit")
    browser.wait(f"{FILLED} && document.querySelector('#filmstrip .caption').textContent.includes('seed {seed}')")
    strength = rest_at(browser, 0.43)
    name = f"photo-make-it-night-{float(strength):.2f}.jpg"
    saved = downloaded(browser, tmp_path / "saved", "#save-picture", name)

    browser.new_visitor()
    browser.open(address, READY)
    drop(browser, "#filmstrip", saved)
    wait_for_text(browser, OFFER, "carries an edit")
    browser.click(f"{OFFER} [data-choice=restore]")
    wait_for_text(browser, OFFER, "Add photo.png to go on.")
    assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
    browser.upload(UPLOAD, photograph)
    browser.wait(f"{STAGE}.edit > 1 && {FILLED}")
    assert browser.run(f"{STAGE}.strength") == strength
    assert f"seed {seed}" in text_of(browser, "#filmstrip .caption")
    browser.click("#settings button")
    browser.wait(f"document.querySelector('{SEED}').value == '{seed}'")
    assert browser.run(f"document.querySelector('{OFFER}').hidden")
    assert engine.opened[-1] == engine.opened[-2]


@browser_tests
def test_a_sweep_opens_its_edit_with_the_photograph_that_is_there(browser, address, photograph, tmp_path):
    """The same, with nothing to ask: then nothing is asked. And what was painted was lost."""
    open_edit(browser, address, photograph)
    paint = "document.querySelector('#filmstrip .stage').%s"
    painted = pack_map(np.repeat([[0.0, 1.0]], 2, axis=0))
    browser.run(paint % f"useStrengthMap({painted!r})")
    painted = browser.run(paint % "strengthMap()")
    browser.click("#save-options button")
    browser.wait("document.querySelector('#save-gif')")
    saved = downloaded(browser, tmp_path / "saved", "#save-gif", "make-it-night.gif")
    browser.run(paint % "useStrengthMap(null)")
    first = browser.run(f"{STAGE}.edit")
    browser.type(INSTRUCTION, "make it sepia")
    drop(browser, "#photograph .drop", saved)
    browser.wait(f"{STAGE}.edit > {first} && {FILLED}")
    assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
    assert "photo.png" in text_of(browser, "#photograph .look")
    wait_for_text(browser, "#filmstrip .label", "painted")
    assert browser.run(paint % "strengthMap()") == painted


@browser_tests
def test_a_saved_picture_can_be_edited_again(browser, address, engine, photograph, tmp_path):
    """Nobody could go on with a saved picture as a photograph; and Edit ends the wait for one."""
    open_edit(browser, address, photograph)
    saved = downloaded(browser, tmp_path / "saved", "#save-picture", "photo-make-it-night-1.00.jpg")
    browser.new_visitor()
    browser.open(address, READY)
    browser.upload(UPLOAD, saved)
    wait_for_text(browser, OFFER, "carries an edit")
    browser.run(f"document.querySelector('{OFFER} [data-choice=use]').focus()")
    browser.key("Enter")
    wait_for_text(browser, "#photograph .look", saved.name)
    assert browser.run(f"document.querySelector('{OFFER}').hidden")
    browser.upload(UPLOAD, saved)
    wait_for_text(browser, OFFER, "carries an edit")
    browser.click(f"{OFFER} [data-choice=restore]")
    wait_for_text(browser, OFFER, "Add photo.png to go on.")
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit > 1 && {FILLED} && document.querySelector('{OFFER}').hidden")
