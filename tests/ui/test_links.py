"""What an address brings to the page: examples, words, strength, and nothing of a stranger's that cannot be used."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from kontext_slider.ui.examples import read_examples, read_opening
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.links import Links
from kontext_slider.ui.restore import RESTORED
from tests.ui.page import FILLED, INSTRUCTION, READY, STAGE, browser_test, open_edit, text_of, wait_for_text
from tests.ui.visitor import Visitor

INPUTS = ("opening.jpg", "make it night", 11, 0, 4, 2.5)
SAID = "#saved-file .offer"


@pytest.fixture
def handlers(engine, tmp_path) -> Handlers:
    return Handlers(engine, str(tmp_path / "cache"), read_opening("pocket"), read_examples())


def follow(handlers: Handlers, **given: Any) -> list[dict[str, Any]]:
    messages = Links(handlers).follow(gr.EventData(None, given), Visitor(handlers).request, *INPUTS)
    return [dict(zip(RESTORED, message, strict=True)) for message in messages]


def test_an_example_opens(handlers, engine):
    """A link could only say: press the second picture, then Edit."""
    first, *rest = follow(handlers, example="temple", strength="0.4", seed="7")
    assert first["photograph"].endswith("temple.jpg") and first["instruction"] == "make it snow" and first["seed"] == 7
    assert engine.opened == [{"instruction": "make it snow", "seed": 7, "steps": 4, "guidance": 2.5}]
    assert rest[-1]["canvas"].example == "temple" and first["saved_file"].sentence == ""


def test_the_opening_is_there_already(handlers, engine):
    """Its frames are shipped, and would be rendered again."""
    [only] = follow(handlers, example="cat", strength="0.4")
    assert only["instruction"] == "make it a pencil sketch" and engine.opened == []
    follow(handlers, example="cat", seed="5")
    assert len(engine.opened) == 1


@pytest.mark.parametrize("given", [{}, {"example": "temple"}])
def test_words_of_a_link_are_never_run(handlers, engine, given):
    """A stranger's words would be edited on a visitor's computer, or on the server, by a click on a link."""
    [only] = follow(handlers, instruction=" make it sepia ", **given)
    assert only["instruction"] == "make it sepia" and engine.opened == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": "1.5"},
        {"strength": "nan"},
        {"strength": "x" * 10**5},
        {"strength": ""},
        {"seed": "-1"},
        {"seed": "9" * 39},
        {"seed": "1.5"},
        {"seed": ["7"]},
        {"instruction": "x" * 501},
        {"instruction": " "},
        {"example": "../../etc/passwd"},
        {"example": ["cat"]},
    ],
)
def test_what_cannot_be_used_is_left_out_with_a_sentence(handlers, engine, wrong):
    """An address can hold anything."""
    [only] = follow(handlers, **wrong)
    assert 20 < len(only["saved_file"].sentence) < 600
    assert only["photograph"] == only["instruction"] == only["seed"] == gr.skip() and engine.opened == []


def test_photographs_of_visitors_have_no_link(handlers, photograph):
    """A link to cat.jpg of a visitor would show the shipped cat."""
    visitor = Visitor(handlers)
    assert visitor.edit(photograph)[-1].canvas.example == ""


def browser_tests(test: Any) -> Any:
    for mark in browser_test:
        test = mark(test)
    return test


@browser_tests
def test_a_copied_link_opens_the_same(browser, opening_address, engine, photograph):
    """Words, seed, strength and example travel; what the tab had before stays, and gradio's own parameters work."""
    browser.open(opening_address, f"{READY} && {STAGE}.frames == 11")
    browser.type(INSTRUCTION, "make it sepia")
    browser.wait("sessionStorage.getItem('kontext-slider').includes('sepia')")
    link = f"{opening_address}?__theme=dark&example=temple&strength=0.4&seed=x"
    browser.open(link, f"{READY} && {STAGE}.edit > 1 && {FILLED}")
    assert browser.run(f"{STAGE}.strength") == "0.4000"
    assert browser.run("document.body.classList.contains('dark')")
    assert "seed is left out" in text_of(browser, SAID)
    browser.run("window.copied = null; navigator.clipboard.writeText = async (text) => { copied = text; }")
    browser.click("[data-tool=link]")
    browser.wait("copied")
    assert browser.run("copied") == f"{opening_address}?example=temple&instruction=make+it+snow&strength=0.40"

    browser.type(INSTRUCTION, "add thick fog")
    browser.wait("sessionStorage.getItem('kontext-slider?example=temple&strength=0.4&seed=x').includes('fog')")
    browser.call("Page.reload")
    browser.wait(f"document.querySelector('{INSTRUCTION}')?.value == 'add thick fog'")  # not followed again
    browser.open(opening_address, f"document.querySelector('{INSTRUCTION}')?.value == 'make it sepia'")


@browser_tests
def test_an_edit_goes_to_another_photograph(browser, address, engine, photograph, tmp_path):
    """Ten photographs of one evening meant ten times the same words, settings and strength."""
    other = tmp_path / "other.png"
    other.write_bytes(photograph.read_bytes())
    open_edit(browser, address, photograph)
    first = browser.run(f"{STAGE}.edit")
    browser.run("document.querySelector('#filmstrip input[type=range]').focus()")
    browser.key("PageDown")
    browser.type(INSTRUCTION, "make it sepia")
    browser.upload("#filmstrip input[type=file]", other)
    browser.wait(f"{STAGE}.edit > {first} && {FILLED}")
    wait_for_text(browser, "#photograph .look", "other.png")
    assert text_of(browser, "#filmstrip .caption") == "make it night · other.png · seed 0"
    assert browser.run(f"{STAGE}.strength") == "0.9000" and engine.opened[0] == engine.opened[1]
    browser.wait(f"document.querySelector('{INSTRUCTION}').value == 'make it night'")
