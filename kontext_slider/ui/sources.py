"""A result becomes the photograph of further edits: "Use as source", at the photograph's own size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ..errors import KontextSliderError
from ..source_file import save_source
from . import messages
from .canvas_data import Busy, describe
from .components import Canvas, notice
from .folder import needs_room
from .handlers import Handlers
from .messages import Message, message
from .open_edit import OpenEdit

SOURCE_FILE = "photograph.png"  # in a folder of its own; the file itself says the photograph's name


class Sources:
    """The handler of "Use as source"."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers

    def use(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Write what is on the slider as a photograph among the uploads. Outputs: those of a message, photograph.

        The browser sends {"edit": int, "strength": float}, and "strength_map": str where the strength is painted.
        """
        try:
            edit, strength, share = self.handlers.placed(request, messages.values_of(event))
        except KontextSliderError as error:
            yield *message(notice=notice(str(error))), gr.skip()
            return
        written: list[Path] = []
        at = strength if share is None else strength * share
        for sent in self.handlers.do(request, edit, self._write(edit, at, written)):
            yield *sent, gr.skip()
        if written:
            edit.source = written[0]
            yield *message(canvas=describe(edit)), str(written[0])

    def _write(self, edit: OpenEdit, strength: Any, written: list[Path]) -> Iterator[Busy]:
        """Renders first what is missing, as the strip does."""
        width, height = edit.session.photo.image.size
        text = f"Making the source, {width} x {height}"
        yield Busy(text=text)
        results: list[Any] = []
        yield from messages.render(lambda on_step: results.append(edit.session.edited(strength, on_step)), text)
        written.append(write_source(results[0]))


def write_source(photo: Any) -> Path:
    """The file of a photograph among the uploads. Raises DiskFull."""
    with needs_room():
        folder = Path(get_upload_folder())
        folder.mkdir(parents=True, exist_ok=True)
        return save_source(photo, Path(tempfile.mkdtemp(prefix="source-", dir=folder)) / SOURCE_FILE)


def wire_sources(sources: Sources, canvas: Canvas, photograph: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Connect the tool row's buttons. inputs: of an edit, which the history of the tab fills in (`history.js`)."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    canvas.use(sources.use, None, [*outputs, photograph], **quiet)
    canvas.fill(None, None, inputs, js="() => window.stepInputs", queue=False, **quiet)
