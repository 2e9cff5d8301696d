"""A list of edits in a real browser: what is composed while a slider moves, what is computed at rest, what is kept."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from kontext_slider.images import read_image
from kontext_slider.metadata import read_metadata
from tests.ui.browser import Browser
from tests.ui.fake_engine import faded
from tests.ui.page import STAGE, browser_test, open_edit, text_of, wait_for_text

pytestmark = browser_test

EDITS, WORDS, ROWS = "[data-tool=edits]", "#filmstrip .layer-add input", "#filmstrip .layers li"
LABEL = "#filmstrip .label"
SEEN = """new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const pixels = document.querySelector('#filmstrip .stage').picture.view.pixels();
  resolve(btoa(Array.from(pixels, (level) => String.fromCharCode(level)).join('')));
})))"""
ROW_TEXTS = f"[...document.querySelectorAll('{ROWS} span')].map((span) => span.textContent)"


def seen(browser: Browser) -> np.ndarray:
    """What the canvas was drawn with last, (H, W, 3)."""
    return np.frombuffer(base64.b64decode(browser.run(SEEN)), np.uint8).reshape(240, 320, 4)[..., :3].astype(int)


def slide(browser: Browser, place: int, strength: float, is_rest: bool = True) -> None:
    """Move the slider of a row, and let it go where it is to rest."""
    events = ["input", "change"] if is_rest else ["input"]
    browser.run(
        f"(() => {{ const r = document.querySelectorAll({ROWS + ' [type=range]'!r})[{place}]; r.value = {strength};"
        f"for (const e of {events}) r.dispatchEvent(new Event(e, {{bubbles: true}})); }})()"
    )


def press(browser: Browser, place: int, act: str) -> None:
    browser.run(f"document.querySelectorAll({ROWS!r})[{place}].querySelector('[data-do={act}]').click()")


def wait_computed(browser: Browser, serial: str) -> None:
    browser.wait(f"{STAGE}.edit != {serial!r} && !('busy' in {STAGE}) && 'drawn' in {STAGE}")
    wait_for_text(browser, LABEL, "computed")


@pytest.fixture
def two_edits(browser, address, photograph) -> Browser:
    """A page with a list of two edits, the first one at .3, the second at 1."""
    open_edit(browser, address, photograph)
    browser.click(EDITS)
    serial = browser.run(f"{STAGE}.edit")
    browser.type(WORDS, "add thick fog")
    browser.click("#filmstrip .layer-add button")
    wait_computed(browser, serial)
    serial = browser.run(f"{STAGE}.edit")
    slide(browser, 0, 0.3)
    wait_computed(browser, serial)
    return browser


def chained(photograph, first: float, second: float) -> np.ndarray:
    """What the fake model makes of a list of two edits."""
    return np.asarray(faded(faded(read_image(photograph), first), second)).astype(int)


def test_the_list_is_computed_at_rest(two_edits, photograph):
    """The second edit's picture stood on the untouched photograph, or on an older place of the first slider."""
    assert two_edits.run(ROW_TEXTS) == ["make it night", "add thick fog"]
    assert np.abs(seen(two_edits) - chained(photograph, 0.3, 1.0)).mean() < 1.5


def test_the_list_is_composed_while_an_earlier_slider_moves(two_edits, photograph, engine):
    """The picture stood still until the server had answered, or the label called a composed picture computed."""
    two_edits.requests.clear()
    slide(two_edits, 0, 0.1, is_rest=False)
    wait_for_text(two_edits, LABEL, "composed")
    sent = [address for address in two_edits.requests if "queue/join" in address]
    composed = seen(two_edits)
    assert sent == [] and np.abs(composed - chained(photograph, 0.1, 1.0)).mean() < 4
    assert np.abs(composed - chained(photograph, 0.3, 1.0)).mean() > 20
    serial = two_edits.run(f"{STAGE}.edit")
    slide(two_edits, 0, 0.1)
    wait_computed(two_edits, serial)
    assert engine.sessions[-1].photo.earlier_edits[0].strength == 0.1


def test_order_on_and_off_and_remove(two_edits, photograph):
    """The list and the picture told of two different orders."""
    serial = two_edits.run(f"{STAGE}.edit")
    press(two_edits, 1, "up")
    wait_computed(two_edits, serial)
    assert two_edits.run(ROW_TEXTS) == ["add thick fog", "make it night"]
    assert two_edits.run(f"{STAGE}.strength") == "0.3000", "the slider is that of the last edit"
    serial = two_edits.run(f"{STAGE}.edit")
    press(two_edits, 1, "on")
    two_edits.wait(f"{STAGE}.edit != {serial!r} && {STAGE}.strength === '1.0000'")
    press(two_edits, 0, "on")
    assert two_edits.run(f"document.querySelectorAll({ROWS!r})[0].querySelector('[data-do=on]').checked")
    serial = two_edits.run(f"{STAGE}.edit")
    press(two_edits, 1, "on")
    wait_computed(two_edits, serial)
    serial = two_edits.run(f"{STAGE}.edit")
    press(two_edits, 0, "remove")
    two_edits.wait(f"{STAGE}.edit != {serial!r} && !('busy' in {STAGE}) && 'drawn' in {STAGE}")
    assert two_edits.run(ROW_TEXTS) == ["make it night"]
    assert np.abs(seen(two_edits) - np.asarray(faded(read_image(photograph), 0.3))).mean() < 1.5


def test_the_list_survives_a_reload_and_is_saved(two_edits, address, tmp_path):
    """A reload left the last edit alone, and the saved file did not tell the first one."""
    two_edits.open(address, f"document.querySelectorAll({ROWS!r}).length === 2 && 'drawn' in {STAGE}")
    wait_for_text(two_edits, LABEL, "computed")
    two_edits.downloads_to(tmp_path / "downloads")
    two_edits.click("#save-picture")
    path = tmp_path / "downloads" / "photo-make-it-night-0.30-add-thick-fog-1.00.jpg"
    two_edits.wait_for_file(path)
    told = read_metadata(path)
    assert told["instruction"] == "add thick fog"
    assert [(edit["instruction"], edit["strength"]) for edit in told["earlier_edits"]] == [("make it night", 0.3)]
    assert "make it night 0.30, then add thick fog" in text_of(two_edits, "#filmstrip .caption")
