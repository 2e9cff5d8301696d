"""Messages from the server to the page, and long work that sends them; checks of what a browser sends back.

A message has values for canvas, notice, nearest instructions, note and download. It carries the whole edit, so messages
may overtake each other. None is sent of an edit that is closed, and errors raised on purpose become a sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder, is_in_or_equal
from pydantic import Field, ValidationError

from ..edit import MAX_STRENGTH, check_strength
from ..engine import grid
from ..errors import InvalidInput, KontextSliderError, SessionClosed, Superseded, UnreadableImage
from ..metadata import unpack_map
from .background import in_thread
from .canvas_data import Busy, EditInputs, describe
from .components import notice
from .edit_folder import SCREEN_SIDE, Box
from .folder import needs_room
from .open_edit import OnStep, OpenEdit

MESSAGE_SECONDS = 0.15  # at most one message to the browser in this time
MAX_MAP_LETTERS = 400_000  # of a strength map from a browser: 512 x 512 bytes that nothing compresses have 350 000
OUTPUTS = ("canvas", "notice", "nearest", "note", "download")  # the widgets of a message, in order
Message = tuple[Any, ...]


class KeptEdit(EditInputs):
    """What a browser has kept of an edit and sends back to have it again (`keep.js`). `key` names an open edit."""

    key: str = Field(max_length=100)


def message(**values: Any) -> Message:
    """New values for widgets, by name; one that is not named stays as it is."""
    return tuple(values[name] if name in values else gr.skip() for name in OUTPUTS)


def no_download() -> Any:
    """Takes back what was offered: the file of a replaced edit is gone. Made anew each time, as gradio changes it."""
    return gr.update(value=None, visible=False)


def report(
    edit: OpenEdit, work: Iterator[Busy | Message], num_others: Callable[[], int] = lambda: 0
) -> Iterator[Message]:
    """Do `work` and send what it yields, for as long as the edit is open. num_others: long jobs that run beside it."""
    try:
        with edit.at_work(), needs_room():
            for step in work:
                if edit.is_closed:
                    return
                yield message(canvas=describe(edit, shared(step, num_others()))) if isinstance(step, Busy) else step
        yield message(canvas=describe(edit))
    except (Superseded, SessionClosed):  # the slider moved on, or a newer edit replaced this one: no news
        return
    except KontextSliderError as error:
        yield message(canvas=describe(edit), notice=notice(str(error)))
    except Exception as error:
        yield message(
            canvas=describe(edit), notice=notice(f"The render failed ({error}). The frames made so far are kept.")
        )
        raise


def shared(busy: Busy, num_others: int) -> Busy:
    """What is being done, and with how many it shares the model."""
    if num_others == 0:
        return busy
    others = "another edit" if num_others == 1 else f"{num_others} other edits"
    return Busy(text=f"{busy.text} · by turns with {others}", fraction=busy.fraction)


def fill(edit: OpenEdit, num_frames: int, least: float = 0.0) -> Iterator[Busy]:
    """Render what is missing of a strip, in the order of `next_strength`, which explains `least`."""

    def num_missing() -> int:
        return sum(not edit.has(strength) for strength in grid(num_frames))

    edit.folder.write_screen(edit.session.photo)
    total = max(num_missing(), 1)
    while (strength := edit.next_strength(num_frames, least)) is not None:
        done = max(total - num_missing(), 0)
        text = f"Frame {min(done + 1, total)} of {total}, strength {strength:.2f}"
        yield Busy(text=text, fraction=done / total)
        for busy in render(partial(edit.fill, strength), text):
            yield Busy(text=busy.text, fraction=min(1, (done + (busy.fraction or 0)) / total))


def fill_each(edit: OpenEdit, strengths: Sequence[float]) -> Iterator[Busy]:
    """Render what is missing of certain strengths, in their order."""
    for number, strength in enumerate(strengths):
        if edit.has(strength):
            continue
        text = f"Frame {number + 1} of {len(strengths)}, strength {strength:.2f}"
        for busy in render(partial(edit.fill, strength), text):
            yield Busy(text=busy.text, fraction=(number + (busy.fraction or 0)) / len(strengths))


def render(
    work: Callable[[OnStep], Any], text: str, unit: str = "step", end: Callable[[], None] = lambda: None
) -> Iterator[Busy]:
    """Run `work(on_step)` in a thread of its own and yield its steps as they happen; raises its error. `end`: as of
    `in_thread`."""

    def stepwise(send: Callable[[tuple[int, int]], None]) -> None:
        work(lambda done, total: send((done, total)))

    sent = 0.0
    with closing(in_thread(stepwise, end)) as steps:
        for done, total in steps:
            if time.monotonic() - sent >= MESSAGE_SECONDS:
                sent = time.monotonic()
                yield Busy(text=f"{text}, {unit} {done} of {total}", fraction=done / max(total, 1))


def whole(value: Any) -> Any:
    """A whole number from a browser as an int: JSON has no integers, so 3 may come as 3.0. Anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def values_of(event: gr.EventData) -> dict[str, Any]:
    """What one of our components has sent."""
    return event._data if isinstance(event._data, dict) else {}


def position(values: dict[str, Any]) -> tuple[int, float]:
    """(edit, strength) of a slider, as the browser sends them; the edit says how far it goes. Raises InvalidInput."""
    edit = values.get("edit")
    if not isinstance(edit, int):
        raise InvalidInput("The browser names no edit: press Edit.")
    return edit, round(check_strength(values.get("strength"), MAX_STRENGTH), 4)


def strength_map(values: dict[str, Any]) -> np.ndarray | None:
    """The painted map of a browser, (h, w) float32 in [0, 1], the share of the strength at every place of the
    photograph; None for none. Raises InvalidInput."""
    text = values.get("strength_map")
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > MAX_MAP_LETTERS:
        raise InvalidInput("The painted strength is no grey picture of at most 512 pixels a side: remove the paint.")
    try:
        return unpack_map(text)
    except InvalidInput as error:
        raise InvalidInput("The painted strength cannot be read: undo the last stroke, or remove the paint.") from error


def box_of(values: dict[str, Any], size: tuple[int, int]) -> Box:
    """The part of a photograph of `size` that a browser asks for: left, top, right, bottom. Raises InvalidInput."""
    box = values.get("box")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int) for side in box):
        raise InvalidInput("A part of the photograph has four whole numbers: left, top, right, bottom.")
    left, top, right, bottom = box
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    if not inside or max(right - left, bottom - top) > SCREEN_SIDE:
        raise InvalidInput(f"A part of the photograph lies inside it and has at most {SCREEN_SIDE} pixels a side.")
    return left, top, right, bottom


def kept_edit(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Key and inputs of the edit that a `reopen` from the browser names; limits are checked where it is opened.

    Raises InvalidInput.
    """
    try:
        inputs = KeptEdit.model_validate(values, strict=True).model_dump()
    except ValidationError as error:
        raise InvalidInput("The browser has kept nothing that names an edit: press Edit.") from error
    return inputs.pop("key"), inputs


def uploaded(path: str) -> str:
    """`path`, where it is a file that was uploaded to this process, as gradio checks it. Raises InvalidInput."""
    if not path or not is_in_or_equal(path, get_upload_folder()) or not Path(path).is_file():
        raise InvalidInput("The server does not have the photograph any more: add it again and press Edit.")
    return path


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Errors about an upload name it as the visitor knows it: the server's folders are private."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(str(error).replace(repr(str(path)), repr(Path(path).name))) from error
