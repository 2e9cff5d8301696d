"""The canvas in a real browser that cannot draw: upload, type, Edit, drag, keys. test_picture.py has one that can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.presets import PRESETS, load_pipeline
from kontext_slider.ui.examples import OPENING
from tests.ui.browser import Browser
from tests.ui.fake_engine import FakeEngine, faded
from tests.ui.page import (
    INSTRUCTION,
    READY,
    SLIDER,
    STAGE,
    browser_test,
    drag,
    open_edit,
    release,
    rest_at,
    served,
    shown,
    start_edit,
    text_of,
    wait_for_text,
)

POCKET = Path(PRESETS["pocket"].model)
pytestmark = browser_test


@pytest.fixture
def browser(plain_browser) -> Browser:
    return plain_browser


def source_of(photograph: Path) -> Image.Image:
    return FakeEngine().open(photograph, "make it night", steps=1).source


def check_the_slider(browser: Browser, source: Image.Image, folder: Path) -> None:
    """What must hold on any model once the strip is full."""
    full = shown(browser, folder)
    requests = len(browser.requests)
    passed = drag(browser, 1.0, 0.234)
    assert len(set(passed)) >= 7, "the picture did not follow the slider"
    sent = [address for address in browser.requests[requests:] if not address.endswith("/app_id")]  # is it there?
    assert sent == [], "dragging over finished frames needed the network"
    assert browser.run(f"{STAGE}.exact") == "false"
    assert "nearest" in text_of(browser, "#filmstrip .label")
    release(browser)
    browser.wait(f"{STAGE}.exact == 'true'")
    strength = float(browser.run(f"{STAGE}.strength"))
    assert abs(strength - 0.234) < 0.02
    assert not np.array_equal(shown(browser, folder), full)

    browser.key("ArrowRight", shift=True)
    browser.key("ArrowRight")
    browser.wait(f"{STAGE}.exact == 'true'")
    assert float(browser.run(f"{STAGE}.shown")) == pytest.approx(strength + 0.06)

    browser.key("Home")
    browser.wait(f"{STAGE}.shown == '0.0000'")
    assert np.array_equal(shown(browser, folder), np.asarray(source)), "strength 0 is not the untouched source"
    browser.key("End")
    browser.wait(f"{STAGE}.shown == '1.0000'")
    assert np.array_equal(shown(browser, folder), full)


def test_upload_edit_drag_and_keys(browser, address, engine, photograph, tmp_path):
    """The promise of the project: the picture follows the slider at once, and the exact strength when it rests."""
    open_edit(browser, address, photograph)
    source = source_of(photograph)
    check_the_slider(browser, source, tmp_path)
    browser.key("PageDown")
    browser.wait(f"{STAGE}.shown == '0.9000'")
    assert np.array_equal(shown(browser, tmp_path), np.asarray(faded(source, 0.9)))
    assert len(engine.rendered) == 12  # ten frames of the strip and two exact strengths; nothing twice


@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_the_pocket_model_in_the_page(browser, photograph, tmp_path):
    """The same on the model in the box: nothing on the path is faked."""
    engine = SliderEngine(load_pipeline("pocket", device="cpu"))
    instruction = next(iter(engine.pipe.known_instructions.values()))[0]
    with served(engine) as address, engine.open(photograph, instruction) as session:
        open_edit(browser, address, photograph, instruction)
        check_the_slider(browser, session.source, tmp_path)


def test_a_preview_is_marked_until_the_exact_frame_is_there(browser, photograph, tmp_path):
    """A rough picture under the word "exact"; or a badge that stays on the exact one; or a preview in the strip."""
    engine = FakeEngine(steps=8)
    with served(engine) as address:
        open_edit(browser, address, photograph)
        engine.step_seconds = 0.1
        drag(browser, 1.0, 0.234)
        release(browser)
        browser.wait(f"'preview' in {STAGE}")
        assert browser.run(f"{STAGE}.exact") == "false" and browser.run(f"{STAGE}.frames") == "11"
        assert "preview" in text_of(browser, "#filmstrip .label")
        browser.wait(f"{STAGE}.exact == 'true' && !('preview' in {STAGE})")
        strength = float(browser.run(f"{STAGE}.strength"))
        assert np.array_equal(shown(browser, tmp_path), np.asarray(faded(source_of(photograph), strength)))


def test_the_frame_at_the_slider_comes_before_the_strip(browser, address, engine, photograph):
    """A second edit begins, and the visitor, who rests on 0.3, sees it after eleven other frames."""
    open_edit(browser, address, photograph)
    strength = rest_at(browser, 0.33)
    engine.rendered.clear()
    engine.step_seconds = 0.05
    first = browser.run(f"{STAGE}.edit")
    browser.click("#suggestions button:nth-child(2)")
    browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit > {first} && {STAGE}.exact == 'true' && {STAGE}.shown == '{strength}'")
    assert float(strength) in engine.rendered[:2]  # at most one frame of the strip was under way


def test_words_errors_and_a_second_edit(browser, address, photograph, tmp_path):
    """An error must leave what was typed and rendered; a suggestion must land in the box; Enter must edit."""
    open_edit(browser, address, photograph, "add a dragon")
    wait_for_text(browser, "#notice", "not trained")
    before = shown(browser, tmp_path)
    browser.type(INSTRUCTION, " ")
    browser.click("#edit")
    wait_for_text(browser, "#notice .error", "Say what to change")
    assert browser.run(f"{STAGE}.frames") == "11"
    assert np.array_equal(shown(browser, tmp_path), before)
    first = browser.run(f"{STAGE}.edit")
    browser.run(f"document.querySelector('{SLIDER}').focus()")
    browser.key("ArrowLeft", shift=True)
    browser.wait(f"{STAGE}.shown == '0.9900'")
    browser.click("#suggestions button:nth-child(2)")
    browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
    browser.run(f"document.querySelector('{INSTRUCTION}').focus()")
    browser.key("Enter")
    browser.wait(f"{STAGE}.edit > {first} && {STAGE}.frames == 12")
    assert browser.run(f"{STAGE}.shown") == "0.9900"  # where the slider was, though the strip has no such frame
    assert not browser.run("Boolean(document.querySelector('#notice .notice'))")


@pytest.mark.skipif(not OPENING.is_file(), reason="assets/opening is not in this checkout")
def test_the_first_thing_a_visitor_does_is_drag(browser, opening_address, engine, tmp_path):
    """An empty page needs a photograph, words and patience before it shows what it is for."""
    browser.open(opening_address, f"{READY} && {STAGE}.frames == 11")
    untouched = shown(browser, tmp_path)
    passed = drag(browser, 1.0, 0.5)
    assert len(set(passed)) >= 4
    release(browser)
    assert not np.array_equal(shown(browser, tmp_path), untouched)
    browser.key("Home")
    browser.wait(f"{STAGE}.shown == '0.0000'")
    assert len(engine.opened) <= 1  # a strength between two frames opens the session
    browser.key("ArrowRight")
    browser.wait(f"{STAGE}.exact == 'true' && {STAGE}.shown == '0.0500'")
    assert browser.run(f"{STAGE}.frames") >= "12" and engine.rendered[-1] == 0.05
    browser.downloads_to(tmp_path / "downloads")
    browser.click("#save-picture")
    browser.wait_for_file(tmp_path / "downloads" / "cat-make-it-a-pencil-sketch-0.05.jpg")


def test_a_frame_whose_download_fails_is_fetched_again(browser, address, photograph):
    """One failed request left the strip at 10 of 11 for ever."""
    browser.call("Network.setBlockedURLs", urls=["*strength-0.1000.png*"])
    start_edit(browser, address, photograph)
    browser.wait(f"{STAGE}.frames == 10 && !('busy' in {STAGE})")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.wait(f"{STAGE}.frames == 11")


def test_a_click_on_an_empty_thumb_fetches_its_frame(browser, address, photograph):
    """The same, after the page has given up: a click on the empty thumb did nothing."""
    browser.speed_up(20)
    browser.call("Network.setBlockedURLs", urls=["*strength-0.1000.png*"])
    start_edit(browser, address, photograph)
    browser.wait(f"{STAGE}.frames == 10 && !('busy' in {STAGE})")
    browser.wait("performance.getEntriesByType('resource').filter((e) => e.name.includes('0.1000')).length >= 6")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.click("#filmstrip .thumb:nth-child(2)")
    browser.wait(f"{STAGE}.frames == 11 && {STAGE}.shown == '0.1000'")
