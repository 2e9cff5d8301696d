"""The slider's scale in a real browser: a strength that is typed, the response curve, even steps, beyond full."""

from __future__ import annotations

import pytest

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
