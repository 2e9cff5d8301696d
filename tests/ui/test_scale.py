"""The slider's scale in a real browser: a strength that is typed, the response curve, even steps, beyond full."""

from __future__ import annotations

import numpy as np
import pytest

from kontext_slider.metadata import read_metadata
from tests.ui import fake_engine
from tests.ui.fake_engine import faded
from tests.ui.page import SLIDER, STAGE, browser_test, open_edit, text_of, wait_for_text

pytestmark = browser_test

NUMBER = "#filmstrip .number"


def value_of(browser, selector: str) -> str:
    return browser.run(f"document.querySelector({selector!r}).value")


def test_a_strength_can_be_typed(browser, address, photograph):
    """Nobody can set 0.123 with a slider, and Enter sent the form or did nothing."""
    open_edit(browser, address, photograph)
    browser.type(NUMBER, "0,123")
    browser.key("Enter")
    browser.wait(f"{STAGE}.strength == '0.1230'")
    assert float(value_of(browser, SLIDER)) == 0.123 and "interpolated" in text_of(browser, "#filmstrip .label")
    assert "Strength 0.123" in browser.run(f"document.querySelector({SLIDER!r}).ariaValueText")
    browser.key("ArrowUp")
    assert value_of(browser, NUMBER) == "0.133"
    browser.type(NUMBER, "45 %")
    browser.run("document.activeElement.blur()")
    assert value_of(browser, NUMBER) == "0.45" and browser.run(f"{STAGE}.strength") == "0.4500"
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    browser.key("ArrowRight")
    assert value_of(browser, NUMBER) == "0.50"


@pytest.mark.parametrize("text", ["abc", "1.2", "-1"])
def test_what_is_no_strength_is_said_and_changes_nothing(browser, address, photograph, text):
    """A slip of the finger put the slider anywhere, without a word."""
    open_edit(browser, address, photograph)
    browser.type(NUMBER, text)
    browser.key("Enter")
    wait_for_text(browser, "#filmstrip .connection", f"not “{text}”")
    assert value_of(browser, NUMBER) == "1.00" and browser.run(f"{STAGE}.strength") == "1.0000"
    browser.type(NUMBER, "0.7")
    browser.key("Escape")
    assert value_of(browser, NUMBER) == "1.00" and browser.run(f"{STAGE}.strength") == "1.0000"


def bent(monkeypatch) -> None:
    """Edits that do nothing up to .4, most of it up to .6, and grow no more beyond 1.2."""

    def response(strength: float) -> float:
        return float(np.interp(strength, [0, 0.4, 0.6, 1, 1.2, 1.5], [0, 0.02, 0.7, 0.9, 1.0, 1.0]))

    monkeypatch.setattr(fake_engine, "faded", lambda source, strength: faded(source, response(strength)))


def thumbs(browser) -> list[float]:
    return browser.run(
        "[...document.querySelectorAll('#filmstrip .thumb')].map((each) => Number(each.dataset.strength))"
    )


def test_the_curve_says_where_nothing_happens_and_where_it_jumps(browser, address, photograph, monkeypatch):
    """A person drags through a third of the slider and thinks that the edit does not work."""
    bent(monkeypatch)
    open_edit(browser, address, photograph)
    label = browser.run("document.querySelector('#filmstrip svg.response').ariaLabel")
    assert "Hardly anything changes from 0.00 to 0.40" in label and "jumps from 0.40 to 0.60" in label
    assert browser.run("document.querySelectorAll('svg.response .dead, svg.response .jump').length") == 2
    slider, drawing = (browser.box(f"#filmstrip {each}") for each in ("input[type=range]", "svg.response"))
    assert abs(drawing["x"] - slider["x"] - 13) < 1 and abs(slider["width"] - drawing["width"] - 26) < 1


def test_even_steps_on_slider_strip_and_export(browser, address, photograph, monkeypatch, tmp_path):
    """The switch moved the thumbs and the file stayed as it was; or the label told the position for the strength."""
    bent(monkeypatch)
    browser.downloads_to(tmp_path / "downloads")
    open_edit(browser, address, photograph)
    browser.click("[data-tool=response]")
    browser.click("[name=even]")
    browser.wait(f"{STAGE}.even == 'true'")
    strengths = thumbs(browser)
    assert strengths[0] == 0 and strengths[-1] == 1 and sum(0.4 <= each <= 0.6 for each in strengths) >= 7
    browser.run(f"document.querySelector({SLIDER!r}).focus()")
    browser.key("Home")
    for _ in range(10):
        browser.key("ArrowRight")
    middle = float(value_of(browser, NUMBER))
    assert float(value_of(browser, SLIDER)) == pytest.approx(0.5, abs=0.01) and 0.5 < middle < 0.6
    assert middle == pytest.approx(strengths[5], abs=0.002)
    browser.click("#save-options button")
    browser.wait("document.querySelector('#save-zip')?.offsetHeight")
    browser.click("#save-zip")
    browser.wait_for_file(tmp_path / "downloads" / "make-it-night.zip")
    made = read_metadata(tmp_path / "downloads" / "make-it-night.zip")
    assert made["even_steps"] is True and made["strengths"] == pytest.approx(strengths, abs=0.02)
    browser.run("window.before = true; location.reload()")
    browser.wait(f"!window.before && {STAGE}.even == 'true' && {STAGE}.strength == '{middle:.4f}'")


def test_beyond_full(browser, address, engine, photograph, monkeypatch, tmp_path):
    """Nobody asked for frames beyond 1 and they were rendered; the page did not say that this is a guess, or where the
    edit ends; what was saved told strength 1."""
    bent(monkeypatch)
    browser.downloads_to(tmp_path / "downloads")
    open_edit(browser, address, photograph)
    assert max(engine.rendered) == 1
    browser.click("[data-tool=response]")
    browser.click("[name=beyond]")
    wait_for_text(browser, ".findings", "stops growing at 1.20")
    browser.wait(f"!('busy' in {STAGE})")
    assert "extrapolation" in text_of(browser, ".findings") and max(engine.rendered) == 1.5
    assert thumbs(browser)[-5:] == [1.1, 1.2, 1.3, 1.4, 1.5]
    assert browser.run("document.querySelectorAll('svg.response .full').length") == 1
    browser.type(NUMBER, "1.15")
    browser.key("Enter")
    browser.wait(f"{STAGE}.strength == '1.1500'")
    browser.click("#save-picture")
    browser.wait_for_file(tmp_path / "downloads" / "photo-make-it-night-1.15.jpg")
    assert read_metadata(tmp_path / "downloads" / "photo-make-it-night-1.15.jpg")["strengths"] == [1.15]
    browser.run("window.before = true; location.reload()")
    browser.wait(f"!window.before && {STAGE}.strength == '1.1500' && document.querySelector({SLIDER!r}).max == '1.5'")
    browser.click("[data-tool=response]")
    browser.click("[name=beyond]")
    browser.wait(f"{STAGE}.strength == '1.0000' && document.querySelector({SLIDER!r}).max == '1'")
