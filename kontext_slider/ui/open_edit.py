"""One open edit on the server: its session, and its finished frames, which lie in its folder (`edit_folder`).

Two kinds of work need frames. A slider at rest uses `session.preview` and `session.render`: the newest position wins,
and the render of an older one ends with `Superseded`. The strip and the exports use `session.frames`, which lets the
slider go first and loses nothing; `next_strength` gives their order.

Previews lie there under other names, and no export uses one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio.data_classes import GradioModel
from PIL import Image

from ..engine import interpolation_errors, next_strength
from ..engine.response import ResponseCurve, measure_response
from .edit_folder import EditFolder, FrameFiles

OnStep = Callable[[int, int], None]  # steps done, steps in all

# A preview delays the exact frame by half. Below this many steps it would have three steps or fewer, resemble the exact
# frame too little to judge the edit by, and the exact frame would be there almost as soon.
PREVIEW_FROM_STEPS = 8
BEYOND = (1.1, 1.2, 1.3, 1.4, 1.5)  # strengths past the full edit that are rendered, where these are wanted
SEEN = 2.0  # levels of 255 in the worst region: a smaller interpolation error is not rendered away (benchmarks/LOG.md)


class LayerInputs(GradioModel):
    """One edit of a list of them. strength: as far as its own slider is, except of the last that is on, whose slider is
    the page's. strength_map: as `metadata.pack_map` makes it, "" for the whole picture."""

    instruction: str
    strength: float = 1.0
    is_on: bool = True
    strength_map: str = ""


@dataclass(frozen=True)
class Below:
    """An open edit that another one stands on, its place in the list of edits, and how it is done there."""

    edit: OpenEdit
    place: int
    layer: LayerInputs


def ignore(done: int, total: int) -> None:
    """An `OnStep` for nobody."""


class OpenEdit:
    """One open session and its finished frames. May be used from several threads.

    serial: grows from edit to edit, so that a page can tell late messages of an older one.
    strengths: of the strip, ascending. photograph: the path of the upload, "" for the edit that the page opens with.
    cache: in which the edit makes its `folder`.
    key: cannot be guessed; a page that is loaded again finds its edit by it.
    highest: strength that the page may ask for; the session must allow it. 1 until somebody wants to go beyond.
    remark: what the page says of the edit while there is no error. example: the name of the shipped example that the
    photograph is, "" for others. said: why it is on its page again, "" where it was opened there.
    below: the edits that made its photograph, the first one first; they close with it. layers: of the list of edits.
    num_refused: how many lists of edits from the browser could not be done.
    source: the file of the newest result that became the photograph of further edits.

    Raises `DiskFull`.
    """

    def __init__(self, session: Any, serial: int, strengths: Sequence[float], photograph: str, cache: str) -> None:
        self.session = session
        self.serial = serial
        self.strengths = list(strengths)
        self.photograph = photograph
        self.key = secrets.token_urlsafe(32)
        self.highest = 1.0
        self.remark = self.example = self.said = ""
        self.below: list[Below] = []
        self.layers: list[LayerInputs] = []
        self.num_refused = 0
        self.source: Path | None = None
        self.folder = EditFolder(cache)
        self.last_use = time.monotonic()
        self.is_closed = False
        self._frames: dict[float, FrameFiles] = {}
        self._previews: dict[float, Path] = {}
        self._num_works = 0
        self._rest: float | None = None  # where the slider rests while its frame is being made
        self._changed = threading.Condition()

    @property
    def num_bytes(self) -> int:
        """What the edit and those below it take in memory, apart from the engine's caches."""
        own = self.session.num_bytes + sum(frame.small.nbytes for frame in self._frames.copy().values())
        return own + sum(layer.edit.num_bytes for layer in self.below)

    @property
    def is_at_work(self) -> bool:
        """Whether something is made of it right now."""
        return self._num_works > 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Something is made of the edit meanwhile: it is not closed for its size."""
        with self._changed:
            self._num_works += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_works -= 1
            self.last_use = time.monotonic()

    @property
    def sizes(self) -> str:
        """The sizes of photograph and frames, as the page says them."""
        return describe_sizes(self.session.photo.image.size, self.session.source.size)

    def frames(self) -> list[tuple[float, FrameFiles]]:
        """Finished frames up to `highest`, weakest first. One whose file somebody has deleted is not finished any
        more."""
        return [(strength, frame) for strength, frame in self._finished().items() if strength <= self.highest]

    def previews(self) -> list[tuple[float, Path]]:
        """Previews whose exact frame is not there yet, weakest first."""
        with self._changed:
            return sorted((strength, path) for strength, path in self._previews.items() if strength not in self._frames)

    def has(self, strength: float) -> bool:
        frame = self._frames.get(round(strength, 4))
        return frame is not None and frame.picture.exists()

    def show(self, strength: float, on_step: OnStep = ignore) -> None:
        """Make the frame of a slider at rest, where it pays a preview first; `on_step` counts the steps of both.

        Raises `Superseded` once the slider has moved on, `SessionClosed` after close, `DiskFull`.
        """
        self.last_use = time.monotonic()
        if self.has(strength):
            self.session.want(strength)  # ends the render of where the slider was before
            return
        with self._at_rest(strength):
            preview = self._num_preview_steps(strength)
            if preview:
                image = self.session.preview(strength, lambda done, total: on_step(done, total + self.session.steps))
                path = self.folder.write_picture(f"preview-{strength:.4f}.png", image, "PNG")
                self._previews[round(strength, 4)] = path
            image = self.session.render(strength, lambda done, total: on_step(preview + done, preview + total))
            self.keep(strength, image)

    def errors(self) -> dict[tuple[float, float], float]:
        """For every two neighbouring finished strengths, how wrong an interpolation between them may be, levels."""
        return interpolation_errors({strength: frame.small for strength, frame in self._finished().items()})

    def response(self) -> ResponseCurve | None:
        """How the edit responds to the strength, measured on sketches of the finished frames; None before both ends
        are there."""
        wanted = [(strength, frame.small) for strength, frame in self.frames()]
        return measure_response(wanted) if {0.0, 1.0} <= dict(wanted).keys() else None

    def next_strength(self, num_frames: int, least: float = 0.0) -> float | None:
        """What to `fill` next for a strip of so many frames; None when it is complete, or when what is missing can be
        interpolated with an error below `least`.

        Waits while another thread makes the frame of a slider at rest, which goes first.
        """
        with self._changed:
            while True:
                finished = {strength: frame.small for strength, frame in self._finished().items()}
                strength = next_strength(num_frames, finished, least, self._rest)
                if strength is None or strength != self._rest:
                    return strength
                self._changed.wait()

    def fill(self, strength: float, on_step: OnStep = ignore) -> None:
        """Make a frame of the strip, after that of a slider at rest. Raises `SessionClosed` and `DiskFull`."""
        self.last_use = time.monotonic()
        if self.has(strength):
            return
        for _, image in self.session.frames([strength], on_step):
            self.keep(strength, image)

    def close(self, but: Collection[OpenEdit] = ()) -> None:
        """Close the session and delete the frames, and those of the edits below, except `but`. Renders under way end
        with `SessionClosed`."""
        for layer in self.below:
            if layer.edit not in but:
                layer.edit.close()
        if self in but:
            return
        with self._changed:
            self.is_closed = True
            self._frames.clear()
            self._previews.clear()
        self.session.close()
        self.folder.remove()

    @contextmanager
    def _at_rest(self, strength: float) -> Iterator[None]:
        """Let the strip wait for the frame at `strength`, until it is there or the slider has moved on."""
        key = round(strength, 4)
        with self._changed:
            self._rest = key
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                if self._rest == key:
                    self._rest = None
                self._changed.notify_all()

    def _num_preview_steps(self, strength: float) -> int:
        """0 where a preview does not pay."""
        session = self.session
        if strength == 0 or session.steps < PREVIEW_FROM_STEPS or not session.preview_steps or session.has(strength):
            return 0
        return session.preview_steps

    def _finished(self) -> dict[float, FrameFiles]:
        """Frames whose file is there, weakest first; others are forgotten."""
        with self._changed:
            self._frames = {key: frame for key, frame in sorted(self._frames.items()) if frame.picture.exists()}
            return dict(self._frames)

    def keep(self, strength: float, image: Image.Image) -> None:
        """Write a finished frame and its transfer, unless they are there. Raises `SessionClosed` and `DiskFull`."""
        key = round(strength, 4)
        if self.has(key):
            return
        frame = self.folder.write_frame(key, image, self.session.transfer(strength, image) if strength else None)
        with self._changed:
            self._frames[key] = frame


def describe_sizes(photograph: tuple[int, int], edited: tuple[int, int]) -> str:
    """ "4032 x 3024, edited at 304 x 224": sizes are (width, height) in pixels."""
    return f"{photograph[0]} x {photograph[1]}, edited at {edited[0]} x {edited[1]}"
