"""A list of edits, one after the other: each is opened on what those before it make of the photograph, at full size.

The page shows the last edit that is on, as it shows any edit; what it stands on stays open below it. A change of the
list keeps what stands before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..edit import check_instruction, check_strength
from ..errors import InvalidInput
from ..metadata import unpack_map
from . import messages
from .canvas_data import Busy
from .open_edit import Below, LayerInputs, OpenEdit

MOST_LAYERS = 6
MAX_LETTERS = 500  # of an instruction
_LAYERS = TypeAdapter(list[LayerInputs])


def layers_of(values: Any) -> list[LayerInputs]:
    """A list of edits as a browser sends it. Raises InvalidInput."""
    try:
        layers = _LAYERS.validate_python(values, strict=False)
    except ValidationError as error:
        raise InvalidInput("The browser's list of edits cannot be read: load the page again.") from error
    if len(layers) > MOST_LAYERS:
        raise InvalidInput(
            f"A list has at most {MOST_LAYERS} edits. Use the result as the source, and go on from there."
        )
    if not any(layer.is_on for layer in layers):
        raise InvalidInput("At least one edit of the list must be on.")
    for layer in layers:
        layer.instruction = check_instruction(layer.instruction, MAX_LETTERS).strip()
        check_strength(layer.strength)
        if layer.strength_map:
            unpack_map(layer.strength_map)
    return layers


def first_on(layers: list[LayerInputs]) -> str:
    """The instruction of the edit that is opened on the photograph itself."""
    return next(layer.instruction for layer in layers if layer.is_on)


def stack(engine: Any, folder: str, edit: OpenEdit, layers: list[LayerInputs], tops: list[OpenEdit]) -> Iterator[Busy]:
    """Open what is new of a list in which `edit` was the last so far, and put the last one into `tops`.

    folder: as for `OpenEdit`. Raises as `engine.open` and `OpenEdit.fill`; then nothing new stays open."""
    open_edits = [*(each.edit for each in edit.below), edit]
    done = [each.layer for each in edit.below]
    places = [place for place, layer in enumerate(layers) if layer.is_on]
    photo, new, below, is_same = open_edits[0].session.photo, [], [], True
    try:
        for number, place in enumerate(places):
            layer = layers[place]
            is_same = (
                is_same and number < len(open_edits) and open_edits[number].session.instruction == layer.instruction
            )
            if is_same:
                current = open_edits[number]
            else:
                current = _open(engine, folder, edit, photo, layer.instruction)
                new.append(current)
            if number == len(places) - 1:
                break
            below.append(Below(current, place, layer))
            is_same = is_same and number < len(done) and done[number] == layer
            if is_same:
                photo = open_edits[number + 1].session.photo
            else:
                results: list[Any] = []
                yield from _do(current, layer, f"Edit {number + 1} of {len(places)}: {layer.instruction}", results)
                photo = results[0]
    except BaseException:
        for each in new:
            each.close()
        raise
    current.below, current.layers = below, layers
    tops.append(current)


def _open(engine: Any, folder: str, like: OpenEdit, photo: Any, instruction: str) -> OpenEdit:
    spec = like.session.spec
    settings = {"seed": spec.seed, "steps": spec.steps, "guidance": spec.guidance, "allow_extrapolation": True}
    session = engine.open(photo, instruction, **settings)
    return OpenEdit(session, 0, like.strengths, like.photograph, folder)


def _do(edit: OpenEdit, layer: LayerInputs, text: str, results: list[Any]) -> Iterator[Busy]:
    """Put the photograph after an edit into `results`; its frame is kept for the browser."""
    edit.folder.write_screen(edit.session.photo)
    yield from messages.render(partial(edit.fill, layer.strength), text)
    yield Busy(text=text)
    share = unpack_map(layer.strength_map) if layer.strength_map else None
    results.append(edit.session.edited(layer.strength if share is None else layer.strength * share))
