"""Nothing is lost: a network that fails, a page that is loaded again, a server that is restarted. In a real browser."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from kontext_slider.ui.edits import OpenEdits
from tests.ui.browser import Browser
from tests.ui.cable import Cable
from tests.ui.fake_engine import FakeEngine
from tests.ui.serve import Server, free_port
from tests.ui.test_browser import (
    CHROMIUM,
    INSTRUCTION,
    SLIDER,
    STAGE,
    browser,  # noqa: F401  a fixture
    drag,
    let_go,
    open_edit,
    photograph,  # noqa: F401  a fixture
    served,
    shown,
)

READY = "document.querySelector('#filmstrip .stage') && document.querySelector('#photograph')"
WORD = "document.querySelector('#filmstrip .connection')"
READY_THUMBS = "document.querySelectorAll('#filmstrip .thumb.ready').length"
GAP_SECONDS = 3

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine: install one to run this test"),
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


def go_offline(browser: Browser, offline: bool) -> None:  # noqa: F811
    browser.call(
        "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )


def start_edit(browser: Browser, address: str, photograph: Path) -> None:  # noqa: F811
    """Upload, type and press Edit."""
    browser.open(address, READY)
    browser.upload("#photograph input[type=file]", photograph)
    browser.wait("document.querySelector('#photograph img').naturalWidth")
    browser.type(INSTRUCTION, "make it night")
    browser.click("#edit")


def edit_over_the_opening(browser: Browser, address: str, photograph: Path) -> None:  # noqa: F811
    """As `open_edit`, on a page that opens with frames and a photograph of its own."""
    browser.open(address, f"{STAGE}.frames == 11")
    browser.upload("#photograph input[type=file]", photograph)
    browser.wait("document.querySelector('#photograph').textContent.includes('320 x 240')")
    browser.type(INSTRUCTION, "make it night")
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit > 1 && {STAGE}.frames == 11 && !('busy' in {STAGE})")


def rest_at(browser: Browser, strength: float) -> str:  # noqa: F811
    """Drag to a strength, let go, and wait for its exact frame; the strength that was reached."""
    drag(browser, 1.0, strength)
    let_go(browser)
    return browser.run(f"{STAGE}.strength")


def check_it_is_back(browser: Browser, strength: str, full: np.ndarray, folder: Path) -> None:  # noqa: F811
    """Photograph, words, strip and slider position are those of before."""
    browser.wait(f"{READY_THUMBS} == 11 && !('busy' in {STAGE}) && {STAGE}.exact == 'true'")
    assert browser.run(f"{STAGE}.strength") == strength
    assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
    browser.wait("document.querySelector('#photograph img').naturalWidth == 320")
    browser.run(f"document.querySelector('{SLIDER}').focus()")
    browser.key("End")
    browser.wait(f"{STAGE}.shown == '1.0000'")
    assert np.array_equal(shown(browser, folder), full)
    assert browser.run(READY_THUMBS) == 11


def test_a_gap_of_three_seconds_in_a_drag_loses_nothing(browser, photograph, tmp_path):  # noqa: F811
    """gradio answers a failed request by loading the page again: photograph, words and frames were gone."""
    with served(FakeEngine()) as address:
        open_edit(browser, address, photograph, "make it night")
        browser.run("window.isTheSamePage = true")
        go_offline(browser, True)
        drag(browser, 1.0, 0.47)
        x, y = browser.middle(SLIDER)
        browser.mouse("mouseReleased", x, y)
        browser.wait(f"!{WORD}.hidden && {WORD}.textContent.includes('does not answer')")
        time.sleep(GAP_SECONDS)
        assert browser.run(f"{STAGE}.exact") == "false"
        go_offline(browser, False)
        browser.wait(f"{STAGE}.exact == 'true' && {STAGE}.frames == 12")
        assert "answers again" in browser.run(f"{WORD}.textContent")
        assert browser.run("window.isTheSamePage"), "the page was loaded again"
        assert float(browser.run(f"{STAGE}.strength")) == pytest.approx(0.47, abs=0.02)


def test_a_gap_while_frames_arrive_loses_nothing(browser, photograph, tmp_path):  # noqa: F811
    """The stream of messages breaks, gradio loads the page again, and the rest of the strip never came."""
    engine = FakeEngine(step_seconds=0.1)
    with served(engine) as address:
        cable = Cable(free_port(), int(address.rstrip("/").split(":")[-1]))
        start_edit(browser, cable.address, photograph)
        browser.wait(f"{STAGE}.frames >= 3")
        full = shown(browser, tmp_path)
        cable.cut()
        time.sleep(GAP_SECONDS)
        cable.mend()
        browser.wait(f"{WORD}.textContent.includes('loaded again')")
        check_it_is_back(browser, "1.0000", full, tmp_path)
        assert len(engine.opened) == 1
        cable.cut()


def test_a_page_that_is_loaded_again_has_its_edit(browser, photograph, tmp_path):  # noqa: F811
    """A reload gave an empty page, and minutes of rendering were gone."""
    engine = FakeEngine()
    with served(engine) as address:
        open_edit(browser, address, photograph, "make it night")
        full = shown(browser, tmp_path)
        strength = rest_at(browser, 0.47)
        rendered = list(engine.rendered)
        browser.call("Page.reload")
        browser.wait(f"{WORD}.textContent.includes('loaded again')")
        check_it_is_back(browser, strength, full, tmp_path)
        assert engine.rendered == rendered, "frames that were there were rendered again"
        browser.type(INSTRUCTION, "make it sepia")
        first = browser.run(f"{STAGE}.edit")
        browser.click("#edit")  # the photograph can still be edited
        browser.wait(f"{STAGE}.edit > {first} && {STAGE}.frames >= 11")


def test_a_page_that_opens_with_frames_gives_way_to_the_kept_edit(browser, photograph, tmp_path):  # noqa: F811
    """The frames that the page opens with would stand where the person's own were, and be rendered between."""
    engine = FakeEngine()
    with served(engine, model="pocket") as address:
        edit_over_the_opening(browser, address, photograph)
        first = browser.run(f"{STAGE}.edit")
        full = shown(browser, tmp_path)
        strength = rest_at(browser, 0.47)
        browser.call("Page.reload")
        browser.wait(f"{STAGE}.edit == '{first}'")
        check_it_is_back(browser, strength, full, tmp_path)
        assert len(engine.opened) == 1


def test_the_opening_keeps_its_position(browser):  # noqa: F811
    """Nothing was uploaded, but where the slider stood is kept as well."""
    engine = FakeEngine()
    with served(engine, model="pocket") as address:
        browser.open(address, f"{STAGE}.frames == 11")
        strength = rest_at(browser, 0.47)
        browser.call("Page.reload")
        browser.wait(f"{STAGE}.strength == '{strength}' && {STAGE}.exact == 'true'")


def test_the_back_button_brings_the_edit_back(browser, photograph, tmp_path):  # noqa: F811
    """A click on a link and the way back gave an empty page."""
    with served(FakeEngine()) as address:
        open_edit(browser, address, photograph, "make it night")
        full = shown(browser, tmp_path)
        strength = rest_at(browser, 0.47)
        browser.open(f"{address}robots.txt", "document.body.textContent.includes('User-agent')")
        browser.run("history.back()")
        browser.wait(READY)
        check_it_is_back(browser, strength, full, tmp_path)


def test_inputs_are_kept_before_an_edit(browser, photograph):  # noqa: F811
    """Whoever has only typed and uploaded loses that as well."""
    with served(FakeEngine()) as address:
        browser.open(address, READY)
        browser.upload("#photograph input[type=file]", photograph)
        browser.wait("document.querySelector('#photograph img').naturalWidth")
        browser.type(INSTRUCTION, "make it sepia")
        browser.wait("sessionStorage.getItem('kontext-slider').includes('sepia')")
        browser.call("Page.reload")
        browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it sepia'")
        browser.wait("document.querySelector('#photograph img').naturalWidth == 320")


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again(browser, photograph, tmp_path):  # noqa: F811
    """The new server knows neither the edit nor the photograph: the page stayed dead until it was filled in again."""
    port, temporary = free_port(), tmp_path / "temporary"
    server = Server(temporary, port)
    edit_over_the_opening(browser, server.address, photograph)
    full = shown(browser, tmp_path)
    strength = rest_at(browser, 0.47)
    server.stop(signal.SIGKILL)
    browser.wait(f"!{WORD}.hidden && {WORD}.textContent.includes('does not answer')")
    assert browser.run(f"{STAGE}.frames") == "12"
    server = Server(temporary, port)
    try:
        browser.wait(f"{WORD}.textContent.includes('rendered again')")
        check_it_is_back(browser, strength, full, tmp_path)
    finally:
        server.stop()


def test_an_edit_that_the_server_has_closed_is_opened_again(browser, photograph, tmp_path):  # noqa: F811
    """After an hour away a move of the slider got an error, and the person had to press Edit."""
    engine = FakeEngine()
    with served(engine, edits=OpenEdits(tmp_path, unused_seconds=2)) as address:
        open_edit(browser, address, photograph, "make it night")
        full = shown(browser, tmp_path)
        time.sleep(4)
        strength = rest_at(browser, 0.47)
        check_it_is_back(browser, strength, full, tmp_path)
        assert len(engine.opened) == 2


def test_a_frame_whose_download_fails_is_fetched_again(browser, photograph):  # noqa: F811
    """One failed request left the strip at 10 of 11 for ever, and a click on the empty thumb asked for nothing."""
    with served(FakeEngine()) as address:
        browser.call("Network.setBlockedURLs", urls=["*strength-0.1000.png*"])
        start_edit(browser, address, photograph)
        browser.wait(f"{STAGE}.frames == 10 && !('busy' in {STAGE})")
        browser.call("Network.setBlockedURLs", urls=[])
        browser.wait(f"{STAGE}.frames == 11")


def test_a_click_on_an_empty_thumb_fetches_its_frame(browser, photograph):  # noqa: F811
    """The same, after the page has given up."""
    with served(FakeEngine()) as address:
        browser.call("Network.setBlockedURLs", urls=["*strength-0.1000.png*"])
        start_edit(browser, address, photograph)
        browser.wait(f"{STAGE}.frames == 10 && !('busy' in {STAGE})")
        time.sleep(16)  # all tries have failed
        browser.call("Network.setBlockedURLs", urls=[])
        browser.click("#filmstrip .thumb:nth-child(2)")
        browser.wait(f"{STAGE}.frames == 11 && {STAGE}.shown == '0.1000'")
