"""Nothing is lost: a network that fails, a page that is loaded again, an edit that the server closed. In a browser."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from kontext_slider.ui.edits import OpenEdits
from tests.ui.browser import Browser
from tests.ui.cable import Cable
from tests.ui.page import (
    FILLED,
    FULL,
    INSTRUCTION,
    READY,
    SETTLED,
    SLIDER,
    STAGE,
    UPLOAD,
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
from tests.ui.serve import free_port

SENTENCE = "#filmstrip .connection"
READY_THUMBS = "document.querySelectorAll('#filmstrip .thumb.ready').length"
GAP_SECONDS = 1
SLOW_RESTORE = """const real = fetch; fetch = async (url, options) => {
  if (options?.method === 'HEAD') await new Promise((resolve) => window.restore = resolve);
  return real(url, options);
};"""

pytestmark = browser_test


def check_it_is_back(browser: Browser, strength: str, full: np.ndarray, folder: Path) -> None:
    """Photograph, words, strip and slider position are those of before."""
    browser.wait(f"{READY_THUMBS} == 11 && !('busy' in {STAGE}) && {SETTLED}")
    assert browser.run(f"{STAGE}.strength") == strength
    assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
    browser.wait("document.querySelector('#photograph img').naturalWidth == 320")
    browser.run(f"document.querySelector('{SLIDER}').focus()")
    browser.key("End")
    browser.wait(f"{STAGE}.shown == '1.0000' && {STAGE}.exact == 'true' && {READY_THUMBS} == 11")
    assert np.array_equal(shown(browser, folder), full)
    assert browser.run(READY_THUMBS) == 11


def test_a_gap_in_a_drag_loses_nothing(plain_browser, address, photograph):
    """gradio answers a failed request by loading the page again: photograph, words and frames were gone."""

    def go_offline(offline: bool) -> None:
        limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        plain_browser.call("Network.emulateNetworkConditions", offline=offline, **limits)

    open_edit(plain_browser, address, photograph)
    plain_browser.run("window.isTheSamePage = true")
    go_offline(True)
    drag(plain_browser, 1.0, 0.47)
    release(plain_browser)
    plain_browser.wait(f"!document.querySelector('{SENTENCE}').hidden")
    assert "does not answer" in text_of(plain_browser, SENTENCE)
    time.sleep(GAP_SECONDS)
    assert plain_browser.run(f"{STAGE}.exact") == "false"
    go_offline(False)
    plain_browser.wait(f"{STAGE}.exact == 'true' && {STAGE}.frames == 12")
    assert "answers again" in text_of(plain_browser, SENTENCE)
    assert plain_browser.run("window.isTheSamePage"), "the page was loaded again"
    assert float(plain_browser.run(f"{STAGE}.strength")) == pytest.approx(0.47, abs=0.02)


def test_a_gap_while_frames_arrive_loses_nothing(browser, address, engine, photograph, tmp_path):
    """The stream of messages breaks, gradio loads the page again, and the rest of the strip never came."""
    engine.pause_after = 2  # beside the source: so frames are missing when the cable is cut
    cable = Cable(free_port(), int(address.rstrip("/").split(":")[-1]))
    start_edit(browser, cable.address, photograph)
    browser.wait(f"{STAGE}.frames == 3")
    full = shown(browser, tmp_path)
    cable.cut()
    time.sleep(GAP_SECONDS)
    cable.mend()
    engine.may_go_on.set()
    wait_for_text(browser, SENTENCE, "loaded again")
    check_it_is_back(browser, "1.0000", full, tmp_path)
    assert len(engine.opened) == 1
    cable.cut()


def test_a_page_that_is_loaded_again_has_its_edit(browser, opening_address, engine, photograph, tmp_path):
    """A reload gave an empty page, and minutes of rendering were gone; so did a click on a link and the way back. Or
    the frames that the page opens with stood where the visitor's own were."""
    open_edit(browser, opening_address, photograph)
    first = browser.run(f"{STAGE}.edit")
    full = shown(browser, tmp_path)
    strength = rest_at(browser, 0.47)
    rendered = list(engine.rendered)
    browser.call("Page.reload")
    wait_for_text(browser, SENTENCE, "loaded again")
    check_it_is_back(browser, strength, full, tmp_path)
    browser.run(f"document.querySelector('{SENTENCE}').hidden = true")
    strength = rest_at(browser, 0.47)
    assert browser.run(f"document.querySelector('{SENTENCE}').hidden"), "the sentence came with a frame, again"
    browser.open(f"{opening_address}robots.txt", "document.body.textContent.includes('User-agent')")
    browser.run("history.back()")
    browser.wait(f"{STAGE}.edit == '{first}'")
    check_it_is_back(browser, strength, full, tmp_path)
    assert (engine.rendered, len(engine.opened)) == (rendered, 1), "frames that were there were rendered again"
    browser.type(INSTRUCTION, "make it sepia")
    browser.click("#edit")  # the photograph can still be edited
    browser.wait(f"{STAGE}.edit > {first} && {FILLED}")


def test_the_opening_keeps_its_position(browser, opening_address):
    """Nothing was uploaded, but where the slider stood is kept as well."""
    browser.open(opening_address, f"{READY} && {STAGE}.frames == 11")
    strength = rest_at(browser, 0.47)
    browser.open("about:blank", "true")
    browser.open(opening_address, f"{READY} && {STAGE}.strength == '{strength}' && {SETTLED}")


def test_inputs_are_kept_before_an_edit(browser, address, photograph):
    """Whoever has only typed and uploaded loses that as well. What is typed right after the page was loaded again was
    overwritten by the older text."""
    browser.open(address, READY)
    browser.upload(UPLOAD, photograph)
    browser.wait("document.querySelector('#photograph img').naturalWidth")
    browser.type(INSTRUCTION, "make it sepia")
    browser.wait("sessionStorage.getItem('kontext-slider').includes('sepia')")
    browser.call("Page.reload")
    browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
    browser.wait("document.querySelector('#photograph img').naturalWidth == 320")

    browser.before_pages(SLOW_RESTORE)
    browser.call("Page.reload")
    browser.wait(f"window.restore && {READY}")
    browser.type(INSTRUCTION, "add thick fog")
    browser.wait("window.newestInputs?.includes('add thick fog')")
    browser.run("restore()")
    browser.wait("document.querySelector('#photograph img').naturalWidth == 320")
    assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "add thick fog"
    browser.wait("sessionStorage.getItem('kontext-slider').includes('fog')")


def test_an_edit_that_the_server_has_closed_is_opened_again(plain_browser, engine, photograph, tmp_path):
    """After an hour away a move of the slider got an error, and the visitor had to press Edit."""
    edits = OpenEdits(tmp_path)
    with served(engine, edits=edits) as address:
        open_edit(plain_browser, address, photograph)
        full = shown(plain_browser, tmp_path)
        edits.close_all()
        strength = rest_at(plain_browser, 0.47)
        plain_browser.wait(FULL.replace("11", "12"))
        check_it_is_back(plain_browser, strength, full, tmp_path)
        assert len(engine.opened) == 2
