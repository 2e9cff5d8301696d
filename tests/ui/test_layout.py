"""The page as gradio would send it: what is there, and what a model's abilities change."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from kontext_slider.ui import create_app
from kontext_slider.ui.layout import GENERAL_INSTRUCTIONS, suggestions
from tests.ui.fake_engine import FakeEngine


def widgets(app: gr.Blocks) -> dict[str, dict]:
    config = app.get_config_file()
    return {each["props"]["elem_id"]: each["props"] for each in config["components"] if each["props"].get("elem_id")}


@pytest.fixture(scope="module")
def page() -> dict[str, dict]:
    return widgets(create_app(FakeEngine()))


def test_everything_a_person_needs_is_there(page):
    """A widget that falls out of the layout would be noticed by nobody but the person who needs it."""
    names = {
        "photograph",
        "instruction",
        "suggestions",
        "edit",
        "filmstrip",
        "settings",
        "guidance",
        "notice",
        "nearest",
    }
    assert names | {"save-gif", "save-webp", "save-mp4", "save-zip", "download"} <= set(page)
    whole = ["make it night", "make it sepia", "add thick fog", "turn it into a pencil sketch"]
    assert page["suggestions"]["value"] == [*whole, "make the ball red"], "a photograph may have no ball"
    assert {"save-picture", "saved", "save-options"} <= set(page)


def test_guidance_is_disabled_with_its_reason_where_the_model_has_none(page):
    """A control that is greyed out without a reason, or that does nothing, misleads."""
    assert page["guidance"]["interactive"] is False
    assert "trained without" in page["guidance"]["info"]
    able = widgets(create_app(FakeEngine(guidance_embeds=True)))["guidance"]
    assert able["interactive"] is True and not able.get("info")


def test_a_model_that_hardly_knows_seeds_says_so(page):
    """A press on "New seed" rendered everything anew, and nobody saw a difference."""
    assert not page["seed"].get("info")
    engine = FakeEngine()
    engine.pipe.defaults = replace(engine.pipe.defaults, noise_scale=0.1)
    assert "changes next to nothing" in widgets(create_app(engine))["seed"]["info"]


def test_a_model_of_one_step_says_so(page):
    """More steps looked like more quality, and are less of it."""
    assert not page["steps"].get("info")
    assert "trained for one step" in widgets(create_app(FakeEngine(steps=1)))["steps"]["info"]


def test_a_model_that_takes_anything_gets_a_general_list():
    """FLUX lists no instructions: an empty row of suggestions would help nobody."""
    assert suggestions({}) == GENERAL_INSTRUCTIONS
    assert suggestions({"night": ["make it night", "turn day into night"]}) == ["make it night"]


def test_a_family_of_edits_is_one_suggestion():
    """Eight colours as eight buttons would bury the other edits."""
    known = {f"recolour-{colour}": [f"make the ball {colour}"] for colour in ("red", "blue")}
    assert suggestions({**known, "snow": ["make it snow"]}) == ["make it snow", "make the ball red"]


def test_the_page_reports_to_nobody_and_needs_no_network(page):
    """Analytics, remote fonts or scripts would break the promise that the app works offline."""
    app = create_app(FakeEngine())
    assert app.analytics_enabled is False
    for name in ("html_template", "css_template", "js_on_load"):
        assert "http" not in page["filmstrip"][name].replace("http://www.w3.org/2000/svg", ""), "but a namespace's name"
    for name in ("html_template", "css_template"):  # gradio fills these in
        assert "${" not in page["filmstrip"][name].replace("{{", "") and "`" not in page["filmstrip"][name]


def test_the_filmstrip_is_empty_at_first(page):
    """The value is what a new visitor gets: frames of somebody else must not be in it."""
    assert page["filmstrip"]["value"]["frames"] == []
