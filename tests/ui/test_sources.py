"""Use as source on the server: what is written, where, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from kontext_slider.images import read_image
from kontext_slider.metadata import pack_map
from kontext_slider.source_file import read_source
from kontext_slider.ui.messages import uploaded
from kontext_slider.ui.sources import Sources
from tests.ui.fake_engine import faded
from tests.ui.visitor import Message, Visitor


def use(visitor: Visitor, **values: Any) -> list[tuple[Message, Any]]:
    """What the handler sends: a message, and the photograph for the upload box."""
    event = gr.EventData(None, values)
    return [(Message(*sent[:-1]), sent[-1]) for sent in Sources(visitor.handlers).use(event, visitor.request)]


@pytest.fixture
def edited(visitor, photograph, tmp_path, monkeypatch) -> Visitor:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    visitor.edit(photograph)
    return visitor


def test_the_result_lies_among_the_uploads(edited, photograph):
    """A file elsewhere is refused when the edit is opened, or served to nobody."""
    told, path = use(edited, **edited.place(0.6))[-1]
    assert told.canvas.source.path == path == uploaded(path)
    photo = read_source(path)
    assert (np.asarray(photo.image) == np.asarray(faded(read_image(photograph), 0.6))).all()
    assert photo.name == "photo.png" and photo.earlier_edits[0].strength == 0.6
    assert (
        "photo.png" in edited.handlers.inputs.look(path)[1]
        and "after make it night 0.60" in edited.handlers.inputs.look(path)[1]
    )


def test_a_source_that_is_told_once_may_be_missed(edited):
    """Gradio shows a page the newest of messages that come together: the history missed the step."""
    told, path = use(edited, **edited.place(0.6))[-1]
    assert edited.commit(0.4)[-1].canvas.source == told.canvas.source
    Path(path).unlink()
    assert edited.commit(0.3)[-1].canvas.source is None


def test_an_edit_of_it_knows_the_earlier_one(edited):
    """The second file's recipe told half of what was done."""
    path = Path(use(edited, **edited.place(0.6))[-1][1])
    edited.edit(path, "add thick fog")
    assert [edit.instruction for edit in edited.opened.session.photo.earlier_edits] == ["make it night"]
    assert "make it night 0.60, then add thick fog · photo.png" in edited.edit(path, "add thick fog")[-1].canvas.caption


def test_what_is_painted_goes_into_the_source(edited, photograph):
    """The whole picture was edited, and the map forgotten."""
    share = np.zeros((12, 16), np.float32)
    share[:, 8:] = 1
    _, path = use(edited, **edited.place(0.6), strength_map=pack_map(share))[-1]
    photo = read_source(path)
    untouched = np.asarray(read_image(photograph))
    assert (np.asarray(photo.image)[:, :150] == untouched[:, :150]).all()
    assert (np.asarray(photo.image)[:, 170:] != untouched[:, 170:]).any()
    assert photo.earlier_edits[0].strength == 0.6 and (photo.earlier_edits[0].share == share).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "names no edit"),
        ({"edit": 5, "strength": 0.5}, "no longer open"),
        ({"edit": 5, "strength": "x"}, "A strength is a number"),
        ({"edit": 5, "strength": 0.5, "strength_map": 3}, "painted strength"),
    ],
)
def test_what_cannot_be_the_source_is_a_sentence(edited, values, words):
    """A made-up request ended in a traceback, or took the photograph away."""
    [(told, path)] = use(edited, **values)
    assert words in told.notice and path == gr.skip()


def test_a_full_disk_is_a_sentence(edited, monkeypatch):
    """The page waited for ever."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kontext_slider.ui.sources.save_source", full)
    sent = use(edited, **edited.place(0.6))
    assert "disk of the server is full" in sent[-1][0].notice
