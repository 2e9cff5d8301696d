"""Saving over the fake engine: what is written, what it tells, and what the person hears."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.export import read_metadata
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.saving import Saving, file_stem
from kontext_slider.ui.tab import Tab
from tests.ui.fake_engine import FakeEngine, faded


@pytest.fixture
def photograph(tmp_path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def handlers(tmp_path) -> Handlers:
    return Handlers(FakeEngine(), str(tmp_path / "cache"))


@pytest.fixture
def saving() -> Saving:
    return Saving(model="fake")


def edit(handlers, tab, photograph, instruction="make it night", num_frames=5, seed=3, steps=2, guidance=2.5):
    return list(handlers.edit(tab, photograph, instruction, num_frames, seed, steps, guidance))


def test_an_export_holds_no_preview(handlers, saving, photograph):
    """A GIF saved between preview and exact frame has one rough frame for ever."""
    tab = Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=8)
    tab.edit._keep_preview(0.5, tab.edit.session.preview(0.5))
    assert not tab.edit.has(0.5) and [strength for strength, _ in tab.edit.previews()] == [0.5]
    list(saving.sweep("zip", tab, 3))
    source = tab.edit.session.source
    assert tab.edit.picture(0.5).tobytes() == faded(source, 0.5).tobytes()
    assert tab.edit.previews() == []


def test_export_completes_the_sweep_first(handlers, saving, photograph):
    """A GIF saved while the strip is half full must still hold every frame."""
    tab = Tab()
    next(m for m in handlers.edit(tab, photograph, "make it night", 5, 7, 2, 2.5) if len(m[1].frames) == 2)
    messages = list(saving.sweep("gif", tab, 9))
    path = Path(messages[-1][2]["value"])
    with Image.open(path) as gif:
        assert gif.n_frames == 9
    assert path.name == "make-it-night.gif"
    told = read_metadata(path)
    assert told["seed"] == 7 and told["model"] == "fake" and told["source"] == "photo.png"
    assert told["strengths"] == [k / 8 for k in range(9)]


def test_the_file_of_a_replaced_edit_is_not_offered_any_more(handlers, saving, photograph):
    """The next edit deletes it: the button that stays would answer a press with nothing."""
    tab = Tab()
    messages = edit(handlers, tab, photograph) + edit(handlers, tab, photograph, "add thick fog")
    list(saving.sweep("gif", tab, 5))
    opened = next(m for m in messages if m[1].busy and m[1].busy.text == "Starting")
    assert opened[4] == gr.update(value=None, visible=False)
    failed = edit(handlers, tab, None)
    assert all(message[4] == gr.skip() for message in failed), "that of an open edit stays"


def test_saving_keeps_what_was_said_of_the_edit(handlers, saving, photograph):
    """The nearest instructions stay on the page; without the sentence before them nobody knows what they are."""
    tab = Tab()
    edit(handlers, tab, photograph, "add a dragon")
    assert "not trained" in list(saving.sweep("gif", tab, 5))[0][1]
    handlers.known = {}
    edit(handlers, tab, photograph, "add a dragon")
    assert list(saving.sweep("gif", tab, 5))[0][1] == ""


def test_export_before_an_edit_says_what_to_do(saving):
    """A click on GIF with nothing open must not fail without a word."""
    _, sentence, download = list(saving.sweep("gif", Tab(), 5))[-1]
    assert "Edit" in sentence and download["visible"] is False


def test_names_of_files_are_safe():
    """An instruction is also a file name."""
    assert file_stem("Make it snow!") == "make-it-snow"
    assert file_stem("../../..") == "edit"
