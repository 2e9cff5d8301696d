"""One open edit on the server: its session, and its finished frames as files that the browser fetches.

Two kinds of work need frames. A slider at rest uses `session.preview` and `session.render`: the newest position wins,
and the render of an older one ends with `Superseded`. The strip and the exports use `session.frames`, which lets the
slider go first and loses nothing; `next_strength` gives their order.

Frames are lossless PNG files in a folder of gradio's cache, and beside each lies its transfer (`transfer.py`), by which
the browser draws the edit at the size of its screen. Strength 0 is the photograph and has none. Each file is fetched
once. Previews lie there under other names, and no export uses one.
"""

from __future__ import annotations

import io
import math
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gradio.data_classes import GradioModel
from PIL import Image

from ..engine import interpolation_errors, next_strength, sketch
from ..engine.response import ResponseCurve, measure_response
from ..errors import SessionClosed
from ..files import write_whole
from .folder import needs_room

OnStep = Callable[[int, int], None]  # steps done, steps in all
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the photograph

# A preview delays the exact frame by half. Below this many steps it would have three steps or fewer, resemble the exact
# frame too little to judge the edit by, and the exact frame would be there almost as soon.
PREVIEW_FROM_STEPS = 8
SCREEN_SIDE = 2048  # pixels: the photograph as the browser gets it is not larger
LOSSLESS_PIXELS = 640 * 480  # a photograph of so few is seen enlarged
SCREEN_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
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
    cache: the folder in which the edit makes one of its own, for its frames.
    key: cannot be guessed; a page that is loaded again finds its edit by it.
    highest: strength that the page may ask for; the session must allow it. 1 until somebody wants to go beyond.
    remark: what the page says of the edit while there is no error. example: the name of the shipped example that the
    photograph is, "" for others.
    below: the edits that made its photograph, the first one first; they close with it. layers: of the list of edits.
    num_refused: how many lists of edits from the browser could not be done.
    newest_tile: its box and file. source: the file of the newest result that became the photograph of further edits.

    Raises `DiskFull`.
    """

    def __init__(self, session: Any, serial: int, strengths: Sequence[float], photograph: str, cache: str) -> None:
        self.session = session
        self.serial = serial
        self.strengths = list(strengths)
        self.photograph = photograph
        self.key = secrets.token_urlsafe(32)
        self.highest = 1.0
        self.remark = self.example = ""
        self.below: list[Below] = []
        self.layers: list[LayerInputs] = []
        self.num_refused = 0
        self.newest_tile: tuple[Box, Path] | None = None
        self.source: Path | None = None
        with needs_room():
            Path(cache).mkdir(parents=True, exist_ok=True)  # somebody may have emptied the temporary folder
            self.folder = Path(tempfile.mkdtemp(prefix="edit-", dir=cache))
        self.last_use = time.monotonic()
        self.is_closed = False
        self.screen: Path | None = None
        self._files: dict[float, Path] = {}
        self._transfers: dict[float, Path] = {}
        self._detail_shares: dict[float, float] = {}
        self._previews: dict[float, Path] = {}
        self._sketches: dict[float, np.ndarray] = {}
        self._num_works = 0
        self._rest: float | None = None  # where the slider rests while its frame is being made
        self._changed = threading.Condition()

    @property
    def num_bytes(self) -> int:
        """What the edit and those below it take in memory, apart from the engine's caches."""
        own = self.session.num_bytes + sum(small.nbytes for small in self._sketches.copy().values())
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

    def files(self) -> list[tuple[float, Path]]:
        """Finished frames up to `highest`, weakest first. One whose file somebody has deleted is not finished any
        more."""
        with self._changed:
            self._forget_deleted()
            return sorted((strength, path) for strength, path in self._files.items() if strength <= self.highest)

    def previews(self) -> list[tuple[float, Path]]:
        """Previews whose exact frame is not there yet, weakest first."""
        with self._changed:
            return sorted((strength, path) for strength, path in self._previews.items() if strength not in self._files)

    def has(self, strength: float) -> bool:
        path = self._files.get(round(strength, 4))
        return path is not None and path.exists()

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
                self._previews[round(strength, 4)] = self._write(f"preview-{strength:.4f}.png", image, "PNG")
            image = self.session.render(strength, lambda done, total: on_step(preview + done, preview + total))
            self.keep(strength, image)

    def transfers(self) -> dict[float, Path]:
        """Files of the transfers of finished frames, by strength."""
        with self._changed:
            return dict(self._transfers)

    def errors(self) -> dict[tuple[float, float], float]:
        """For every two neighbouring finished strengths, how wrong an interpolation between them may be, levels."""
        with self._changed:
            self._forget_deleted()
            return interpolation_errors({strength: self._sketches[strength] for strength in self._files})

    def response(self) -> ResponseCurve | None:
        """How the edit responds to the strength, measured on sketches of the finished frames; None before both ends
        are there."""
        with self._changed:
            self._forget_deleted()
            finished = [(strength, self._sketches[strength]) for strength in sorted(self._files)]
        wanted = [(strength, small) for strength, small in finished if strength <= self.highest]
        return measure_response(wanted) if {0.0, 1.0} <= dict(wanted).keys() else None

    def detail_shares(self) -> dict[float, float]:
        """How much of the edit no colour map explains (`Transfer.detail_share`), by finished strength."""
        with self._changed:
            return dict(self._detail_shares)

    def next_strength(self, num_frames: int, least: float = 0.0) -> float | None:
        """What to `fill` next for a strip of so many frames; None when it is complete, or when what is missing can be
        interpolated with an error below `least`.

        Waits while another thread makes the frame of a slider at rest, which goes first.
        """
        with self._changed:
            while True:
                self._forget_deleted()
                finished = {strength: self._sketches[strength] for strength in self._files}
                strength = next_strength(num_frames, finished, least, self._rest)
                if strength is None or strength != self._rest:
                    return strength
                self._changed.wait()

    def write_screen(self) -> None:
        """Write the photograph as any browser can show it, at most SCREEN_SIDE pixels a side: `screen`, None before.

        Raises `SessionClosed` and `DiskFull`."""
        if self.screen is None or not self.screen.exists():
            picture = self.session.photo.on_white()
            shrink = max(1.0, max(picture.size) / SCREEN_SIDE)
            size = round(picture.width / shrink), round(picture.height / shrink)
            picture = picture if shrink == 1 else picture.resize(size, Image.Resampling.HAMMING)
            if math.prod(picture.size) <= LOSSLESS_PIXELS:
                self.screen = self._write("photograph.png", picture, "PNG", compress_level=1)
            else:
                self.screen = self._write("photograph.jpg", picture, "JPEG", **SCREEN_JPEG)

    def write_tile(self, box: Box) -> None:
        """Write a part of the photograph at its own size, the newest tile.

        Raises `SessionClosed` and `DiskFull`."""
        path = self.folder / "tile-{}-{}-{}-{}.jpg".format(*box)
        if not path.exists():
            self._write(path.name, self.session.photo.on_white().crop(box), "JPEG", **SCREEN_JPEG)
        self.newest_tile = box, path

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
            for frames in (self._files, self._transfers, self._previews, self._sketches):
                frames.clear()
        self.session.close()
        shutil.rmtree(self.folder, ignore_errors=True)

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

    def _forget_deleted(self) -> None:
        for strength in [strength for strength, path in self._files.items() if not path.exists()]:
            del self._files[strength]

    def keep(self, strength: float, image: Image.Image) -> None:
        """Write a finished frame and its transfer, unless they are there. Raises `SessionClosed` and `DiskFull`."""
        key = round(strength, 4)
        if self.has(key):
            return
        name, small = f"strength-{key:.4f}", sketch(image)
        if strength:
            made = self.session.transfer(strength, image)
            transfer = self._write_bytes(f"{name}.safetensors", made.pack())
        path = self._write(f"{name}.png", image, "PNG")
        with self._changed:
            self._files[key], self._sketches[key] = path, small
            if strength:
                self._transfers[key], self._detail_shares[key] = transfer, made.detail_share

    def _write(self, name: str, image: Image.Image, format: str, **options: Any) -> Path:
        buffer = io.BytesIO()
        image.save(buffer, format=format, **options)
        return self._write_bytes(name, buffer.getvalue())

    def _write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file of the edit, unless it is there: one that the browser may be reading never changes."""
        with self._changed:
            if self.is_closed:
                raise SessionClosed("This edit is no longer open; press Edit to render it again.")
            path = self.folder / name
            with needs_room():
                self.folder.mkdir(parents=True, exist_ok=True)
                return path if path.exists() else write_whole(path, content)


def describe_sizes(photograph: tuple[int, int], edited: tuple[int, int]) -> str:
    """ "4032 x 3024, edited at 304 x 224": sizes are (width, height) in pixels."""
    return f"{photograph[0]} x {photograph[1]}, edited at {edited[0]} x {edited[1]}"
