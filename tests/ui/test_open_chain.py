"""A list of edits on the server: what each is opened on, what is kept when the list changes, and what closes."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image
from kontext_slider.metadata import pack_map
from kontext_slider.ui.open_chain import layers_of
from tests.ui.fake_engine import faded
from tests.ui.visitor import Message, Visitor, named

NIGHT, FOG, SEPIA = "make it night", "add thick fog", "make it sepia"


def listed(*edits: tuple[Any, ...]) -> list[dict[str, Any]]:
    """(instruction, strength, is_on and map where they are not the usual) of each, as a browser sends them."""
    names = ("instruction", "strength", "is_on", "strength_map")
    return [dict(zip(names, edit, strict=False)) for edit in edits]


def change(visitor: Visitor, *edits: tuple[Any, ...]) -> list[Message]:
    data = {"edit": visitor.opened.serial, "layers": listed(*edits)}
    return list(named(visitor.handlers.chain(gr.EventData(None, data), visitor.request)))


@pytest.fixture
def stacked(visitor, photograph) -> Visitor:
    """A page with two edits, the first at .5."""
    visitor.edit(photograph, NIGHT)
    change(visitor, (NIGHT, 0.5), (FOG, 1.0))
    return visitor


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image)


def test_an_edit_is_opened_on_the_one_before_at_full_size(stacked, photograph, engine):
    """The second edit saw the untouched photograph, or a small frame."""
    top = stacked.opened
    assert top.session.instruction == FOG
    assert (pixels(top.session.photo.image) == pixels(faded(read_image(photograph), 0.5))).all()
    assert engine.sessions[-1].seed == engine.sessions[0].seed == 3


def test_the_page_gets_a_new_edit_with_its_list(stacked, photograph):
    """A message of an older edit was shown over the new one, or the list was gone after a reload."""
    before = stacked.opened.serial
    last = change(stacked, (NIGHT, 0.5), (FOG, 1.0), (SEPIA, 0.25))[-1].canvas
    assert last.edit > before and last.inputs.instruction == SEPIA
    assert [(layer.instruction, layer.strength) for layer in last.inputs.layers] == [
        (NIGHT, 0.5),
        (FOG, 1.0),
        (SEPIA, 0.25),
    ]
    assert [below.place for below in last.below] == [0, 1] and last.base.path.endswith("photograph.png")
    assert f"{NIGHT} 0.50, then {FOG} 1.00, then {SEPIA} · photo.png" in last.caption


def test_what_stands_before_a_change_is_kept(stacked, engine):
    """Every move of the second slider opened and rendered the first edit again."""
    change(stacked, (NIGHT, 0.5), (FOG, 1.0), (SEPIA, 1.0))
    night, fog = (below.edit for below in stacked.opened.below)
    num_opened, sepia = len(engine.sessions), stacked.opened
    change(stacked, (NIGHT, 0.5), (FOG, 0.3), (SEPIA, 1.0))
    assert [below.edit for below in stacked.opened.below] == [night, fog]
    assert len(engine.sessions) == num_opened + 1 and sepia.is_closed
    change(stacked, (NIGHT, 0.5), (FOG, 0.3))
    assert stacked.opened is fog and not fog.is_closed and not night.is_closed
    change(stacked, (FOG, 0.3), (NIGHT, 0.5))
    assert fog.is_closed and night.is_closed and stacked.opened.session.instruction == NIGHT


def test_an_edit_that_is_off_changes_nothing(stacked, photograph):
    """An edit that was switched off stayed in the picture, or fell out of the list."""
    change(stacked, (NIGHT, 0.5, False), (FOG, 1.0), (SEPIA, 1.0, False))
    top = stacked.opened
    assert top.session.instruction == FOG and top.below == [] and len(top.layers) == 3
    assert (pixels(top.session.photo.image) == pixels(read_image(photograph))).all()


def test_a_list_is_opened_again_after_a_restart(visitor, photograph):
    """The server was restarted: the last edit came back on the untouched photograph."""
    inputs = {
        "photograph": str(photograph),
        "instruction": FOG,
        "num_frames": 5,
        "seed": 3,
        "steps": 2,
        "guidance": 2.5,
    }
    layers = listed((NIGHT, 0.5), (FOG, 1.0))
    list(visitor.handlers._edit(visitor.request, {**inputs, "layers": layers}))
    assert visitor.opened.session.photo.earlier_edits[0].instruction == NIGHT


def test_a_list_that_fails_leaves_what_was(stacked, engine):
    """One bad edit took the whole list with it."""
    before = stacked.opened
    engine.fails_at = 0.7
    *_, told, last = change(stacked, (NIGHT, 0.7), (FOG, 1.0))
    assert (
        "cannot render" in told.notice
        and last.canvas.num_refused == 1
        and stacked.opened is before
        and not before.is_closed
    )
    assert not before.below[0].edit.is_closed


def test_an_edit_closes_with_all_that_it_stands_on(stacked, photograph):
    """Sessions and frames of lists were never released."""
    below = [each.edit for each in stacked.opened.below]
    stacked.edit(photograph, SEPIA)
    assert below and all(edit.is_closed for edit in below)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "cannot be read"),
        ([{"instruction": 5}], "cannot be read"),
        (listed((NIGHT, 1.5)), "A strength is a number"),
        (listed((" ", 1.0)), "Say what to change"),
        (listed((NIGHT, 1.0, False)), "At least one edit"),
        (listed(*[(NIGHT, 1.0)] * 7), "at most 6 edits"),
        (listed((NIGHT, 1.0, True, "x")), "strength map cannot be read"),
    ],
)
def test_lists_that_cannot_be(values, words):
    """What a browser sends is checked before anything is opened."""
    with pytest.raises(InvalidInput, match=words):
        layers_of(values)
    assert layers_of(listed((NIGHT, 1, True, pack_map(np.ones((4, 4))))))[0].strength_map
