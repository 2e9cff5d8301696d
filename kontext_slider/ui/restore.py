"""A file that was saved here opens its edit again: what the page asks, and what it does.

Every file that a visitor adds comes here first. One that carries no recipe is a photograph. Nothing of a file is kept
but its upload: each press of a button reads it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import GradioModel

from ..errors import InvalidInput, KontextSliderError
from ..picture_file import PICTURE_FORMATS
from . import messages
from .canvas_data import CanvasData
from .components import asset
from .handlers import EDIT_INPUTS, Handlers
from .messages import OUTPUTS
from .open_edit import LayerInputs
from .saved_edit import MAX_NAME, SavedEdit, has_recipe, read_saved_edit, shortened
from .saving import PRIVATE

RESTORED = (*EDIT_INPUTS, "saved_file", *OUTPUTS)  # the widgets that a restored edit fills, in order
NOT_HERE = "The server does not have the file any more: add it again."
OTHER_BYTES = "This is not the photograph that {} was made from; the edit is applied to it."
# What the page waits for is there: the browser goes on by itself.
GO_ON = "(photograph, offer) => (photograph && offer && offer.waits ? { ...offer, is_due: true } : offer)"
END = "() => ({ path: '', sentence: '', kind: 'advice', choices: [], waits: false, is_due: false })"
Message = tuple[Any, ...]


class Offer(GradioModel):
    """What the page says of a saved file, and asks.

    path: the file's upload. kind: "advice" or "error". choices: names of buttons: "restore" the edit, "use" the file as
    a photograph, go on "anyway" with the photograph that is there, "cancel". waits: for a photograph. is_due: the
    browser restores the edit at once.
    """

    path: str = ""
    sentence: str = ""
    kind: str = "advice"
    choices: list[str] = []
    waits: bool = False
    is_due: bool = False


class SavedFile(gr.HTML):
    """The sentence about a saved file, with its buttons.

    Events: `restore` {"path": str, "is_answer": bool}, open the edit of a file; `is_answer`: with the photograph that
    is there, whichever it is. `use` {"path": str}, the file is a photograph."""

    data_model = Offer

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            value=Offer(),
            html_template='<div class="offer notice" role="status"></div>',
            js_on_load=asset("restore.js"),
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: Offer | None) -> Offer:
        return payload or Offer()

    def postprocess(self, value: Offer | None) -> Offer:
        return value or Offer()


class Restoring:
    """The handlers. `origin`: the names of model, slider and speed, as in `Saving`."""

    def __init__(self, handlers: Handlers, origin: Mapping[str, Any]) -> None:
        self._handlers = handlers
        self._pipe = handlers.engine.pipe
        self._origin = origin

    def arrived(self, event: gr.EventData, offer: Offer) -> tuple[Any, Any]:
        """A file was sent. Outputs: photograph, saved file."""
        try:
            path = sent_file(event)
            if has_recipe(path) and not self._is_asked_for(path, offer):
                return gr.skip(), self._offer(path)
        except InvalidInput as error:
            return gr.skip(), refusal(error)
        return path, gr.skip() if offer.waits else Offer()

    def use(self, event: gr.EventData) -> tuple[Any, Any]:
        """A saved picture is a photograph. Outputs: photograph, saved file."""
        try:
            return sent_file(event), Offer()
        except InvalidInput as error:
            return gr.skip(), refusal(error)

    def restore(
        self, event: gr.EventData, photograph: str | None, num_frames: Any, request: gr.Request
    ) -> Iterator[Message]:
        """Open the edit of a saved file, or ask for its photograph. Outputs: `RESTORED`."""
        try:
            path = sent_file(event)
            saved = read_saved_edit(path, self._pipe, self._origin)
        except KontextSliderError as error:
            yield values(saved_file=refusal(error))
            return
        inputs = self._inputs(saved, num_frames)
        is_same = bool(photograph) and saved.is_made_from(str(photograph))
        is_answer = messages.values_of(event).get("is_answer") is True
        if not photograph or not (is_same or is_answer):
            yield values(saved_file=_request(saved, path, bool(photograph)), **inputs)
            return
        other = "" if is_same else OTHER_BYTES.format(shortened(Path(path).name, MAX_NAME))
        yield values(saved_file=Offer(sentence=" ".join(filter(None, [other, *saved.remarks]))), **inputs)
        opened = {"photograph": photograph, **inputs}
        yield from begin(self._handlers, request, opened, saved.strength, saved.layers, saved.strength_map)

    def another(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Make the edit that the page shows of another photograph. Outputs: `RESTORED`."""
        serial = messages.values_of(event).get("edit")
        try:
            path = sent_file(event)
            edit = self._handlers.find(str(request.session_hash), serial) if isinstance(serial, int) else None
            if edit is None:
                raise InvalidInput("This edit is no longer open: press Edit to make it of the new photograph.")
        except KontextSliderError as error:
            yield values(saved_file=refusal(error))
            return
        inputs = edit.session.spec.facts() | {"num_frames": len(edit.strengths), "photograph": path}
        yield values(saved_file=Offer(), **inputs)
        yield from begin(self._handlers, request, inputs, strength=None)

    def _is_asked_for(self, path: str, offer: Offer) -> bool:
        """Whether a file is the photograph that the page waits for: it may carry a recipe itself."""
        if not offer.waits:
            return False
        saved = read_saved_edit(messages.uploaded(offer.path), self._pipe, self._origin)
        return bool(saved.source_sha256) and saved.is_made_from(path)

    def _offer(self, path: str) -> Offer:
        name, suffix = shortened(Path(path).name, MAX_NAME), Path(path).suffix.lower().removeprefix(".")
        try:
            saved = read_saved_edit(path, self._pipe, self._origin)
        except InvalidInput as error:
            return Offer(path=path, sentence=str(error), kind="error", choices=["use", "cancel"])
        if saved.num_strengths != 1 or suffix not in PICTURE_FORMATS:
            return Offer(path=path, is_due=True)
        sentence = f"{name} carries an edit: “{shortened(saved.instruction, MAX_NAME)}”, strength {saved.strength:.2f}."
        return Offer(path=path, sentence=sentence, choices=["restore", "use"])

    def _inputs(self, saved: SavedEdit, num_frames: Any) -> dict[str, Any]:
        """What the inputs show, the photograph left out. num_frames: what they show now."""
        defaults, settings = self._pipe.defaults, dict(saved.settings)
        for name in ("steps", "guidance"):
            settings[name] = getattr(defaults, name) if settings[name] is None else settings[name]
        return settings | {"num_frames": saved.num_frames or num_frames}


def begin(
    handlers: Handlers,
    request: gr.Request,
    inputs: dict[str, Any],
    strength: float | None,
    layers: Sequence[LayerInputs] = (),
    strength_map: str | None = None,
) -> Iterator[Message]:
    """Open an edit as a press on Edit does, with the slider at `strength`, or where it is. inputs: of `EDIT_INPUTS`;
    layers: of several edits one after the other; strength_map: as in `CanvasData`."""
    for message in handlers.edit(request, *(inputs[name] for name in EDIT_INPUTS), layers=layers):
        named = dict(zip(OUTPUTS, message, strict=True))
        if isinstance(named["canvas"], CanvasData):
            named["canvas"].strength, named["canvas"].strength_map = strength, strength_map
        yield values(**named)


def values(**given: Any) -> Message:
    """New values for the widgets of `RESTORED`, by name; one that is not named stays as it is."""
    return tuple(given[name] if name in given else gr.skip() for name in RESTORED)


def sent_file(event: gr.EventData) -> str:
    """The path of the upload that an event names. Raises InvalidInput."""
    path = messages.values_of(event).get("path")
    try:
        return messages.uploaded(path if isinstance(path, str) else "")
    except InvalidInput as error:
        raise InvalidInput(NOT_HERE) from error


def refusal(error: Exception) -> Offer:
    return Offer(sentence=str(error), kind="error", choices=["cancel"])


def _request(saved: SavedEdit, path: str, has_photograph: bool) -> Offer:
    """Asks for the photograph of an edit."""
    choices = ["anyway", "cancel"] if has_photograph else ["cancel"]
    return Offer(path=path, sentence=f"Add {saved.photograph} to go on.", choices=choices, waits=True)


def wire_restoring(
    restoring: Restoring, widgets: dict[str, Any], canvas: Any, looked: Any, restored: list[Any]
) -> None:
    """Connect the files that arrive. looked: the event that has looked at a photograph. restored: the widgets of
    `RESTORED`."""
    photograph, saved = widgets["photograph"], widgets["saved_file"]
    quick: dict[str, Any] = {**PRIVATE, "queue": False}
    arrived = photograph.arrived(restoring.arrived, saved, [photograph, saved], **quick)
    arrived.then(None, None, None, js="() => document.dispatchEvent(new Event('arrival'))", **quick)
    looked.success(None, [photograph, saved], saved, js=GO_ON, **quick)
    saved.use(restoring.use, None, [photograph, saved], **quick)
    saved.restore(restoring.restore, [photograph, widgets["num_frames"]], restored, **PRIVATE)
    canvas.another(restoring.another, None, restored, **PRIVATE)
    gr.on([widgets["edit"].click, widgets["instruction"].submit], None, None, saved, js=END, **quick)
