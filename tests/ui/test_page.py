"""The page as a visitor with a phone or a laptop has it: what is on the screen, what is in reach, what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.export import read_metadata
from kontext_slider.images import read_image
from tests.ui.browser import Browser
from tests.ui.fake_engine import faded
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

pytestmark = browser_test

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
SLOW_UPLOADS = """(() => {
  const real = window.fetch;
  window.fetch = async (place, ...more) => {
    if (String(place.url || place).includes('/upload')) await new Promise((resolve) => setTimeout(resolve, 1500));
    return real(place, ...more);
  };
})()"""
PAGE_WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture
def portrait(tmp_path) -> Path:
    """A photograph held upright, larger than the model's size."""
    path = tmp_path / "portrait.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((900, 1200), Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def check_a_long_instruction_fits(browser: Browser, width: int) -> None:
    browser.type(INSTRUCTION, "x" * 300)
    browser.click("#edit")
    wait_for_text(browser, "#notice", "not trained")
    assert browser.run(PAGE_WIDTH) <= width


@pytest.mark.parametrize(("width", "height"), PHONES)
def test_a_phone(browser, address, portrait, width, height):
    """The slider was below the screen (y = 901 of 844), or the picture above it: nobody saw what the slider does. A
    strip of eleven thumbnails made the page twice as wide as the screen. Buttons of 18 to 26 pixels are missed by a
    thumb."""
    browser.resize(width, height)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=5)
    open_edit(browser, address, portrait)
    browser.wait(f"{STAGE}.exact == 'true'")
    place = browser.run(ON_SCREEN)
    assert place["top"] >= 0 and place["bottom"] <= place["screen"] == height, place
    assert place["height"] >= 0.4 * height, "the picture is what it is about"
    assert browser.run(PAGE_WIDTH) <= width
    for folded in ("#settings", "#save-options"):
        browser.click(f"{folded} button")
    browser.wait("document.querySelector('#save-gif') && document.querySelector('#guidance input')")
    assert browser.run(SMALL_TARGETS) == []
    check_a_long_instruction_fits(browser, width)


def test_a_laptop(browser, address, portrait):
    """What a visitor wants in the end must not be below the screen."""
    browser.resize(1280, 720)
    open_edit(browser, address, portrait)
    browser.run("scrollTo(0, 0)")
    assert browser.run("document.querySelector('#save-picture').getBoundingClientRect().bottom") <= 720
    assert browser.box("#filmstrip .picture")["width"] >= 0.6 * 1280
    check_a_long_instruction_fits(browser, 1280)


def test_saving(browser, address, engine, portrait, tmp_path):
    """A press must end with a file on the visitor's disk: the strength on the screen at the photograph's own size, not
    another strength or the 256 pixels of the model; a GIF with a frame per strength."""
    engine.warning = "Fine detail is the photograph's own."
    downloads = tmp_path / "downloads"
    browser.downloads_to(downloads)
    open_edit(browser, address, portrait)
    assert "900 x 1200, edited at" in text_of(browser, "#saved")
    strength = float(rest_at(browser, 0.234))
    browser.click("#save-picture")
    path = downloads / f"portrait-make-it-night-{strength:.2f}.jpg"
    browser.wait_for_file(path)
    wait_for_text(browser, "#saved", "Saved 900 x 1200")
    assert "Fine detail" in text_of(browser, "#saved")
    assert read_metadata(path)["strengths"] == [strength]
    saved, wanted = (
        np.asarray(each, dtype=float) for each in (read_image(path), faded(read_image(portrait), strength))
    )
    assert np.abs(saved - wanted).mean() < 3
    browser.click("#save-options button")
    browser.wait("document.querySelector('#save-gif')?.offsetHeight")  # gradio mounts it when the part is unfolded
    browser.click("#save-gif")
    wait_for_text(browser, "#download", "Download GIF")
    browser.wait_for_file(downloads / "make-it-night.gif")
    with Image.open(downloads / "make-it-night.gif") as gif:
        assert gif.n_frames == 11


def test_uploads(browser, address, portrait, tmp_path):
    """A press on Save with nothing open failed without a word. A broken picture stayed in the upload, and the mistake
    was told only after Edit. A phone's HEIC, which the browser cannot show, was refused with "only image/* allowed"."""
    pillow_heif = pytest.importorskip("pillow_heif")
    heic, letter = tmp_path / "IMG_0001.HEIC", tmp_path / "letter.jpg"
    with Image.open(portrait) as image:
        pillow_heif.from_pillow(image).save(heic)
    letter.write_text("Dear Sir or Madam")
    browser.open(address, READY)
    browser.click("#save-picture")
    wait_for_text(browser, "#notice", "press Edit first")
    browser.upload(UPLOAD, letter)
    wait_for_text(browser, "#notice", "letter.jpg")
    assert not browser.run("Boolean(document.querySelector('#photograph img'))")
    browser.upload(UPLOAD, heic)
    wait_for_text(browser, "#photograph", "900 x 1200, edited at")
    browser.wait("document.querySelector('#photograph img').naturalHeight > 100")
    assert "IMG_0001.HEIC" in text_of(browser, "#photograph")
    assert not browser.run("Boolean(document.querySelector('#notice .notice'))")


def test_edit_waits_for_a_photograph_that_is_on_its_way(browser, address, engine, photograph, portrait):
    """Edit, pressed while a large photograph was being sent, edited the one before."""
    browser.open(address, READY)
    browser.upload(UPLOAD, photograph)
    wait_for_text(browser, "#photograph", f"{photograph.name} ")
    browser.type(INSTRUCTION, "make it night")
    browser.run(SLOW_UPLOADS)
    browser.upload(UPLOAD, portrait)
    wait_for_text(browser, "#photograph", f"Sending {portrait.name}")
    browser.click("#edit")
    wait_for_text(browser, "#photograph", "then Edit")
    browser.wait(f"{STAGE}.edit > 1")
    assert [session.photo.name for session in engine.sessions] == [portrait.name]
    browser.click("#edit")
    browser.wait(f"{FILLED}")
    assert len(engine.sessions) == 2, "later presses are not held"


def test_an_example_brings_its_instruction_and_its_sizes(browser, address):
    """A click on an example that changes only the picture leaves the instruction of another."""
    browser.open(address, f"{READY} && document.querySelector('#examples button img')")
    browser.click("#examples button:nth-child(2)")
    wait_for_text(browser, "#photograph", "640 x 427, edited at")
    browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it snow'")
