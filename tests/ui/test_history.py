"""Use as source and the history of a tab, in a real browser: nothing is lost on the way back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kontext_slider.images import read_image
from kontext_slider.metadata import read_metadata
from tests.ui.browser import Browser
from tests.ui.fake_engine import faded
from tests.ui.page import INSTRUCTION, SETTLED, SLIDER, STAGE, browser_test, open_edit, rest_at, text_of, wait_for_text

pytestmark = browser_test

USE, HISTORY = "[data-tool=source]", "[data-tool=history]"
STEPS = "document.querySelectorAll('#filmstrip .steps button').length"
CURRENT = "#filmstrip .steps [aria-current]"
KEPT = "JSON.parse(sessionStorage.getItem('kontext-slider')).history"
THUMBS = "[...document.querySelectorAll('#filmstrip .steps img')].filter((i) => i.naturalWidth).length"


def use_as_source(browser: Browser, strength: float) -> str:
    """Rest at a strength and make that the photograph; the strength that was reached."""
    reached = rest_at(browser, strength)
    browser.click(USE)
    wait_for_text(browser, "#photograph", f"after make it night {float(reached):.2f}")
    return reached


def edit_further(browser: Browser, words: str) -> None:
    serial = browser.run(f"{STAGE}.edit")
    browser.type(INSTRUCTION, words)
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit != {serial!r} && {SETTLED} && {THUMBS} >= 3")


def undo(browser: Browser, key: str = "z", shift: bool = False) -> None:
    modifiers = 2 + 8 * shift
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers)


@pytest.fixture
def two_edits(browser, address, photograph) -> str:
    """A tab with an edit, its result as the source, and an edit of that; the first one's strength."""
    open_edit(browser, address, photograph)
    reached = use_as_source(browser, 0.6)
    edit_further(browser, "add thick fog")
    return reached


def test_a_result_becomes_the_photograph_at_full_size(browser, engine, address, photograph, two_edits, tmp_path):
    """The second edit started from the small frame, or its file knew nothing of the first one."""
    session = engine.sessions[-1]
    expected = faded(read_image(photograph), float(two_edits))
    assert session.photo.name == photograph.name
    assert (np.asarray(session.photo.image) == np.asarray(expected)).all()
    browser.downloads_to(tmp_path / "downloads")
    browser.click("#save-picture")
    words = f"photo-make-it-night-{float(two_edits):.2f}-add-thick-fog-"
    strength = float(browser.run(f"{STAGE}.strength"))
    browser.wait_for_file(path := tmp_path / "downloads" / f"{words}{strength:.2f}.jpg")
    told = read_metadata(path)
    assert [(edit["instruction"], edit["strength"]) for edit in told["earlier_edits"]] == [
        ("make it night", float(two_edits))
    ]


def test_undo_and_redo_by_keys(browser, two_edits):
    """Ctrl+Z in a text field took back an edit, or an undo forgot where the slider was."""
    assert browser.run(STEPS) == 3
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    undo(browser)
    wait_for_text(browser, CURRENT, "2 · new source")
    undo(browser)
    wait_for_text(browser, CURRENT, "1 · make it night")
    browser.wait(f"{SETTLED} && {STAGE}.strength === {two_edits!r}")
    browser.wait(f"document.querySelector({INSTRUCTION!r}).value === 'make it night'")
    browser.wait("!document.querySelector('#photograph').textContent.includes('after')")
    undo(browser, shift=True)
    wait_for_text(browser, "#photograph", "after make it night")
    undo(browser, key="y")
    browser.wait(f"document.querySelector({INSTRUCTION!r}).value === 'add thick fog' && {SETTLED}")
    browser.run(f"document.querySelector({INSTRUCTION!r}).focus()")
    undo(browser)
    assert browser.run(f"{KEPT}.at") == 2, "a text field has an undo of its own"


def test_an_edit_after_an_undo_forgets_what_was_undone(browser, two_edits):
    """Two futures of one step."""
    browser.click(HISTORY)
    browser.click("#filmstrip [data-step='0']")
    wait_for_text(browser, CURRENT, "1 · make it night")
    browser.wait(f"document.querySelector({INSTRUCTION!r}).value === 'make it night' && {SETTLED}")
    serial = browser.run(f"{STAGE}.edit")
    browser.type(INSTRUCTION, "turn it into a pencil sketch")
    browser.click("#edit")
    browser.wait(f"{STAGE}.edit != {serial!r} && {SETTLED} && {STEPS} == 2")
    assert browser.run("document.querySelector('[data-do=redo]').disabled")


def test_the_history_survives_a_reload(browser, engine, address, two_edits):
    """A reload left one step of three, or a second edit that nobody had asked for."""
    browser.open(address, f"{STEPS} == 3 && {THUMBS} == 3 && {SETTLED}")
    assert text_of(browser, CURRENT).startswith("3 · add thick fog")
    browser.click(HISTORY)
    browser.click("[data-do=undo]")
    wait_for_text(browser, CURRENT, "2 · new source")
    assert engine.sessions[-1].photo.earlier_edits[0].instruction == "make it night"


def test_any_two_steps_are_compared(browser, two_edits, tmp_path):
    """A comparison that shows one picture twice, or their thumbs."""
    browser.click(HISTORY)
    browser.wait(f"{THUMBS} == 3")
    browser.run("document.querySelectorAll('.steps-compare select')[0].selectedIndex = 0")
    browser.click("[data-do=compare]")
    pair = "[...document.querySelectorAll('.compare-steps[open] img')]"
    browser.wait(f"{pair}.filter((image) => image.naturalWidth >= 320).length == 2")
    captions = json.loads(
        browser.run("JSON.stringify([...document.querySelectorAll('.pair figcaption')].map((c) => c.textContent))")
    )
    assert captions[0].startswith("1 · make it night") and captions[1].startswith("3 · add thick fog")
    both = browser.run(f"{pair}.map((image) => image.getBoundingClientRect().width > 0)")
    browser.click(".compare-steps [data-do=mode]")
    one = browser.run(f"{pair}.map((image) => image.getBoundingClientRect().width > 0)")
    browser.click(".compare-steps .pair")
    other = browser.run(f"{pair}.map((image) => image.getBoundingClientRect().width > 0)")
    assert both == [True, True] and sorted([one, other]) == [[False, True], [True, False]]


def test_what_the_page_opens_with_can_be_the_source(browser, engine, opening_address):
    """The first edit that a visitor sees has no upload, and no step to go back to."""
    browser.open(opening_address, f"{STAGE}.shown === '1.0000'")
    browser.click(USE)
    wait_for_text(browser, "#photograph", "after")
    browser.wait(f"{STEPS} == 2")
    assert Path(browser.run(f"{KEPT}.list[1].source")).name == "photograph.png"
