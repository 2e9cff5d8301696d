"""Compare in a real browser: what is seen beside or in place of the edit."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from kontext_slider.images import read_image
from tests.ui.browser import Browser
from tests.ui.fake_engine import faded
from tests.ui.page import FILLED, NO_WEBGL, SLIDER, STAGE, browser_test, open_edit

pytestmark = browser_test

COMPARE, LINE, HELD = "[data-tool=compare]", "#filmstrip .split", "#filmstrip .held"
SEEN = """new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const pixels = document.querySelector('#filmstrip .stage').picture.view.pixels();
  resolve(btoa(Array.from(pixels, (level) => String.fromCharCode(level)).join('')));
})))"""


def seen(browser: Browser, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    """What the canvas was drawn with last, as (H, W, 3) of the whole photograph."""
    width, height = size
    return np.frombuffer(base64.b64decode(browser.run(SEEN)), np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def is_alike(pixels: np.ndarray, picture: Image.Image) -> bool:
    return bool(np.abs(pixels - np.asarray(picture.convert("RGB"))).mean() < 1)


def press(browser: Browser, key: str, kind: str) -> None:
    browser.call("Input.dispatchKeyEvent", type=kind, key=key)


def is_hidden(browser: Browser, selector: str) -> bool:
    return browser.run(f"document.querySelector({selector!r}).hidden")


@pytest.mark.parametrize("key", ["b", "\\"])
def test_a_held_key_shows_the_photograph(browser, address, photograph, key):
    """The picture stayed untouched after the key was let go, or the key went into a field."""
    open_edit(browser, address, photograph)
    source, edited = read_image(photograph), faded(read_image(photograph), 1.0)
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    press(browser, key, "keyDown")
    assert is_alike(seen(browser), source) and not is_hidden(browser, HELD)
    assert "untouched" in browser.run("document.querySelector('#filmstrip .spoken').textContent")
    press(browser, key, "keyUp")
    assert is_alike(seen(browser), edited) and is_hidden(browser, HELD)


def test_a_press_that_rests_shows_the_photograph(browser, address, photograph):
    """A click, the first half of a double click, flashed the photograph; or a drag did."""
    open_edit(browser, address, photograph)
    x, y = browser.middle("#filmstrip .picture")
    browser.click("#filmstrip .picture")
    assert is_hidden(browser, HELD)
    browser.mouse("mousePressed", x, y)
    browser.wait(f"!document.querySelector({HELD!r}).hidden")
    assert is_alike(seen(browser), read_image(photograph))
    browser.mouse("mouseReleased", x, y)
    assert is_alike(seen(browser), faded(read_image(photograph), 1.0)) and is_hidden(browser, HELD)


def test_the_line_moves_by_mouse_and_keys(browser, address, photograph):
    """A line that nobody without a mouse can move, or that stands elsewhere than the picture is split."""
    open_edit(browser, address, photograph)
    browser.click(COMPARE)
    box = browser.box("#filmstrip .picture")
    x, y = browser.middle(LINE)
    browser.mouse("mousePressed", x, y)
    browser.mouse("mouseMoved", box["x"] + box["width"] / 2 + 5, y)
    browser.mouse("mouseReleased", box["x"] + box["width"] / 2 + 5, y)
    middle = browser.run(f"document.querySelector({LINE!r}).getBoundingClientRect().x + 22")
    assert abs(middle - (box["x"] + box["width"] / 2 + 5)) < 1.5
    source, edited = (
        np.asarray(each).astype(int) for each in (read_image(photograph), faded(read_image(photograph), 1))
    )
    both = seen(browser)
    assert np.abs(both[:, :150] - source[:, :150]).mean() < 1 and np.abs(both[:, 170:] - edited[:, 170:]).mean() < 1
    browser.run(f"document.querySelector({LINE!r}).focus()")
    browser.key("Home")
    assert browser.run(f"document.querySelector({LINE!r}).ariaValueText").startswith("0 % untouched")
    browser.key("ArrowRight")
    assert browser.run(f"document.querySelector({LINE!r}).ariaValueNow") == "2"
    browser.click(COMPARE)
    assert is_hidden(browser, LINE) and is_alike(seen(browser), faded(read_image(photograph), 1.0))


def test_the_difference_is_a_heat_map(browser, address, photograph):
    """Where nothing changes it is black: the ends of the map were mixed up, or it showed the edit."""
    open_edit(browser, address, photograph)
    browser.click(COMPARE)
    browser.click("[data-mode=difference]")
    assert seen(browser).mean() > 40 and not is_hidden(browser, ".stage .heat") and is_hidden(browser, LINE)
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    browser.key("Home")
    assert seen(browser).mean() < 5


def test_compare_comes_back_with_the_page(browser, address, photograph):
    """What was switched on was off after a reload."""
    open_edit(browser, address, photograph)
    browser.click(COMPARE)
    browser.click("[data-mode=difference]")
    browser.run("window.before = true; location.reload()")
    pressed = "document.querySelector('[data-mode=difference][aria-pressed=true]')"
    browser.wait(f"!window.before && {STAGE}.edit > 1 && {FILLED} && {pressed}")


def test_a_browser_that_cannot_draw_shows_the_frame_at_zero(browser, address, photograph):
    """Holding did nothing there, or left the photograph in place of the frame."""
    browser.before_pages(NO_WEBGL)
    open_edit(browser, address, photograph)
    frame = "document.querySelector('#filmstrip .picture img').alt"
    before = browser.run(frame)
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    press(browser, "b", "keyDown")
    assert browser.run(frame).endswith("strength 0.00") and before.endswith("strength 1.00")
    press(browser, "b", "keyUp")
    assert browser.run(frame) == before
    browser.click(COMPARE)
    assert browser.run("document.querySelector('[data-mode=split]').disabled")
