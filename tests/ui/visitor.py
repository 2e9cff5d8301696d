"""A visitor of the handlers: what a page would send, and the messages that come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import gradio as gr

from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.messages import OUTPUTS
from kontext_slider.ui.open_edit import OpenEdit


class Message(NamedTuple):
    """What a handler sends, by the names of its outputs."""

    canvas: Any
    notice: Any
    nearest: Any
    note: Any
    download: Any


assert Message._fields == OUTPUTS


def named(messages: Iterator[tuple[Any, ...]]) -> Iterator[Message]:
    """What a handler sends, as it comes."""
    return (Message(*message) for message in messages)


class Visitor:
    """One page, by its name. `speed` is what its exports tell."""

    def __init__(self, handlers: Handlers, page: str = "page") -> None:
        self.handlers = handlers
        self.page = page
        self.request: Any = SimpleNamespace(session_hash=page)

    @property
    def opened(self) -> OpenEdit | None:
        return self.handlers.edits.of(self.page)

    def begin_edit(
        self,
        photograph: Path | None,
        instruction: Any = "make it night",
        num_frames: Any = 5,
        seed: Any = 3,
        steps: Any = 2,
        guidance: Any = 2.5,
    ) -> Iterator[Message]:
        path = None if photograph is None else str(photograph)
        return named(self.handlers.edit(self.request, path, instruction, num_frames, seed, steps, guidance))

    def edit(self, photograph: Path | None, *values: Any, **settings: Any) -> list[Message]:
        return list(self.begin_edit(photograph, *values, **settings))

    def begin_commit(self, strength: Any, serial: int | None = None) -> Iterator[Message]:
        return named(self.handlers.commit(gr.EventData(None, self.place(strength, serial)), self.request))

    def commit(self, strength: Any, serial: int | None = None) -> list[Message]:
        return list(self.begin_commit(strength, serial))

    def reopen(self, data: object) -> list[Message]:
        return list(named(self.handlers.reopen(gr.EventData(None, data), self.request)))

    def draw(self, serial: int | None = None) -> list[Message]:
        return self._send(self.handlers.draw, serial)

    def complete(self, serial: int | None = None) -> list[Message]:
        return self._send(self.handlers.complete, serial)

    def beyond(self, is_on: bool) -> list[Message]:
        return self._send(self.handlers.beyond, None, on=is_on)

    def tile(self, box: object) -> list[Message]:
        return self._send(self.handlers.tile, None, box=box)

    def _send(self, handler: Any, serial: int | None, **values: Any) -> list[Message]:
        data = {"edit": self.opened.serial if serial is None else serial, **values}
        return list(named(handler(gr.EventData(None, data), self.request)))

    def place(self, strength: Any, serial: int | None = None) -> dict[str, Any]:
        """What stands on the slider."""
        return {"edit": self.opened.serial if serial is None else serial, "strength": strength}


def strengths(message: Message) -> list[float]:
    """Those of the frames in a message."""
    return [frame.strength for frame in message.canvas.frames]
