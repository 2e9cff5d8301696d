"""The page as a person with a phone or a laptop has it: what is on the screen, what is in reach, what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.export import read_metadata
from kontext_slider.images import read_image
from kontext_slider.ui.opening import OPENING
from tests.ui.browser import Browser
from tests.ui.fake_engine import FakeEngine, faded
from tests.ui.test_browser import (
    INSTRUCTION,
    SLIDER,
    STAGE,
    browser,
    drag,
    let_go,
    open_edit,
    pytestmark,
    served,
    shown,
)

__all__ = ["browser", "pytestmark"]  # the fixture and the marks are pytest's to find

PHONES = [(390, 844), (430, 932), (844, 390)]
ON_SCREEN = """(() => {
  const box = (selector) => document.querySelector(selector).getBoundingClientRect();
  const picture = box('#filmstrip .picture'), slider = box('#filmstrip input[type=range]');
  return { top: picture.top, bottom: slider.bottom, height: picture.height, screen: innerHeight };
})()"""
SMALL_TARGETS = """[...document.querySelectorAll('button, textarea, select, a, [role=button], input, .drop')]
  .filter((each) => each.getClientRects().length && each.type !== 'file')
  .map((each) => [each.type === 'radio' || each.type === 'checkbox' ? each.closest('label') : each, each])
  .filter(([target]) => target.getBoundingClientRect().height < 43.5)
  .map(([target, each]) => each.tagName + ' ' + each.id + ' ' + target.textContent.trim().slice(0, 30))"""
READY = (
    "document.querySelector('#filmstrip .stage') && document.querySelector('#photograph input').accept"
    " && document.querySelector('#save-picture')"
)


@pytest.fixture
def portrait(tmp_path) -> Path:
    """A photograph held upright, larger than the model's size."""
    path = tmp_path / "portrait.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((900, 1200), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def hold(browser: Browser, width: int, height: int) -> None:  # noqa: F811
    """Be a phone of this size, with a finger for a pointer."""
    browser.resize(width, height)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)


@pytest.mark.parametrize(("width", "height"), PHONES)
def test_picture_and_slider_are_on_a_phones_screen_together(browser, portrait, width, height):  # noqa: F811
    """The slider was below the screen (y = 901 of 844), or the picture above it: nobody saw what the slider does."""
    with served(FakeEngine()) as address:
        hold(browser, width, height)
        open_edit(browser, address, portrait, "make it night")
        browser.wait(f"{STAGE}.exact == 'true'")
        place = browser.run(ON_SCREEN)
        assert place["top"] >= 0 and place["bottom"] <= place["screen"] == height, place
        assert place["height"] >= 0.4 * height, "the picture is what it is about"
        assert browser.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "height"), PHONES)
def test_what_a_finger_touches_is_44_pixels_high(browser, portrait, width, height):  # noqa: F811
    """Buttons of 18 to 26 pixels are missed by a thumb."""
    with served(FakeEngine()) as address:
        hold(browser, width, height)
        open_edit(browser, address, portrait, "make it night")
        for folded in ("#settings", "#save-options"):
            browser.click(f"{folded} button")
        browser.wait("document.querySelector('#save-gif') && document.querySelector('#guidance input')")
        assert browser.run(SMALL_TARGETS) == []


def test_save_picture_is_in_reach_on_a_laptop(browser, portrait):  # noqa: F811
    """What a person wants in the end must not be below the screen."""
    with served(FakeEngine()) as address:
        browser.resize(1280, 720)
        open_edit(browser, address, portrait, "make it night")
        browser.run("scrollTo(0, 0)")
        save = browser.run("document.querySelector('#save-picture').getBoundingClientRect().bottom")
        assert save <= 720


def test_save_picture_saves_what_is_on_the_slider_at_full_size(browser, portrait, tmp_path):  # noqa: F811
    """Another strength than the one on the screen, or the 256 pixels of the model."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    with served(FakeEngine(warning="Fine detail is the photograph's own.")) as address:
        open_edit(browser, address, portrait, "make it night")
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        assert "900 x 1200, edited at" in browser.run("document.querySelector('#saved').textContent")
        drag(browser, 1.0, 0.234)
        let_go(browser)
        strength = float(browser.run(f"{STAGE}.strength"))
        browser.click("#save-picture")
        path = folder / f"portrait-make-it-night-{strength:.2f}.jpg"
        browser.wait_for_file(path)
        browser.wait("document.querySelector('#saved').textContent.includes('900 x 1200')")
        assert "Fine detail" in browser.run("document.querySelector('#saved').textContent")
    assert read_metadata(path)["strengths"] == [strength]
    saved, wanted = (
        np.asarray(each, dtype=float) for each in (read_image(path), faded(read_image(portrait), strength))
    )
    assert np.abs(saved - wanted).mean() < 3


def test_save_before_an_edit_says_what_to_do(browser):  # noqa: F811
    """A press on Save with nothing open must not fail without a word."""
    with served(FakeEngine()) as address:
        browser.open(address, READY)
        browser.click("#save-picture")
        browser.wait("document.querySelector('#notice').textContent.includes('press Edit first')")


def test_a_photograph_that_the_browser_cannot_show_is_taken_and_shown(browser, portrait, tmp_path):  # noqa: F811
    """A phone's HEIC was refused with "only image/* allowed"."""
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_0001.HEIC"
    with Image.open(portrait) as image:
        pillow_heif.from_pillow(image).save(path)
    with served(FakeEngine()) as address:
        open_edit(browser, address, path, "make it night")
        look = browser.run("document.querySelector('#photograph').textContent")
        assert "IMG_0001.HEIC" in look and "900 x 1200, edited at" in look
        assert browser.run("document.querySelector('#photograph img').naturalHeight") > 100


def test_a_file_that_is_no_photograph_is_refused_with_a_true_sentence(browser, portrait, tmp_path):  # noqa: F811
    """A broken picture in the upload, and the mistake told only after Edit."""
    path = tmp_path / "letter.jpg"
    path.write_text("Dear Sir or Madam")
    with served(FakeEngine()) as address:
        browser.open(address, READY)
        browser.upload("#photograph input[type=file]", path)
        browser.wait("document.querySelector('#notice').textContent.includes('letter.jpg')")
        assert not browser.run("Boolean(document.querySelector('#photograph img'))")
        browser.upload("#photograph input[type=file]", portrait)
        browser.wait("document.querySelector('#photograph img').naturalWidth")
        assert not browser.run("Boolean(document.querySelector('#notice .notice'))")


def test_an_example_brings_its_instruction_and_its_sizes(browser):  # noqa: F811
    """A click on an example that changes only the picture leaves the instruction of another."""
    with served(FakeEngine()) as address:
        browser.open(address, f"{READY} && document.querySelector('#examples button img')")
        browser.click("#examples button:nth-child(2)")
        browser.wait("document.querySelector('#photograph').textContent.includes('640 x 427, edited at')")
        browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it snow'")


@pytest.mark.skipif(not OPENING.is_file(), reason="assets/opening is not in this checkout")
def test_the_first_thing_a_visitor_does_is_drag(browser, tmp_path):  # noqa: F811
    """An empty page asks for a photograph, words and patience before it shows what it is for."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    engine = FakeEngine()
    with served(engine, model="pocket") as address:
        browser.open(address, f"{READY} && {STAGE}.frames == 11")
        untouched = shown(browser, tmp_path)
        passed = drag(browser, 1.0, 0.5)
        assert len(set(passed)) >= 4
        x, y = browser.middle(SLIDER)
        browser.mouse("mouseReleased", x, y)
        assert not np.array_equal(shown(browser, tmp_path), untouched)
        browser.key("Home")
        browser.wait(f"{STAGE}.shown == '0.0000'")
        assert engine.opened == [] or len(engine.opened) == 1  # a strength between two frames opens the session
        browser.key("ArrowRight")
        browser.wait(f"{STAGE}.exact == 'true' && {STAGE}.shown == '0.0500'")
        assert browser.run(f"{STAGE}.frames") >= "12" and engine.rendered[-1] == 0.05
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.click("#save-picture")
        browser.wait_for_file(folder / "cat-make-it-a-pencil-sketch-0.05.jpg")
