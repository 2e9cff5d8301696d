"""What one browser tab holds: at most one open edit and its finished frames.

Two kinds of work ask the session for frames. The hand on the slider uses `session.preview` and `session.show`: the
newest wins, the older one ends with `Superseded`. The strip and the exports use `session.frames`, which lets the hand
go first and loses nothing; `next_strength` says in which order.

Frames are kept as lossless PNG files in a folder of gradio's cache: the browser fetches each once by its address,
strength 0 keeps the source's very pixels, and an export reads back what the person saw even when the engine's own cache
has let a frame go. Previews are kept beside them under other names, and no export takes one for a frame.
"""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.engine import next_strength, sketch, sketch_difference
from kontext_slider.errors import SessionClosed
from kontext_slider.files import write_whole
from kontext_slider.ui.folder import needs_room

OnStep = Callable[[int, int], None]

# A preview delays the exact frame by half. Below this many steps it would have three steps or fewer, resemble the exact
# frame too little to judge the edit by, and the exact frame would be there almost as soon.
PREVIEW_FROM_STEPS = 8


@dataclass(frozen=True)
class Recipe:
    """How an edit is made, as an export tells it. `strengths` are those of the strip, ascending; `sizes` is what the
    page says of the photograph's size; `photograph` is the path of the uploaded file."""

    instruction: str
    seed: int
    steps: int
    guidance: float | None
    source: str
    strengths: tuple[float, ...]
    photograph: str = ""
    sizes: str = ""


def caption(recipe: Recipe) -> str:
    """Whose frames these are, as the page says it."""
    return f"{recipe.instruction} · {recipe.source} · seed {recipe.seed}"


class OpenEdit:
    """One open session and its finished frames. `serial` grows with a tab's edits, so that late news is told apart.

    `key` cannot be guessed: a page that is loaded again finds its edit by it.
    """

    def __init__(self, session: Any, serial: int, recipe: Recipe, cache: str) -> None:
        self.session = session
        self.serial = serial
        self.recipe = recipe
        self.key = secrets.token_urlsafe(32)
        self.remark = ""  # what the page says of it while there is no error
        with needs_room():
            Path(cache).mkdir(parents=True, exist_ok=True)  # somebody may have emptied the temporary folder
            self.folder = Path(tempfile.mkdtemp(prefix="edit-", dir=cache))
        self._last_use = time.monotonic()
        self._has_page = True
        self._files: dict[float, Path] = {}
        self._previews: dict[float, Path] = {}
        self._sketches: dict[float, np.ndarray] = {}
        self._hand: float | None = None  # where the hand rests while its frame is being made
        self._is_closed = False
        self._changed = threading.Condition()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def has_page(self) -> bool:
        """Whether a page shows this edit, as far as is known."""
        return self._has_page

    def touch(self) -> None:
        """Note that a page uses this edit now."""
        self._last_use = time.monotonic()
        self._has_page = True

    def leave(self) -> None:
        """Note that the page of this edit is gone. It may be loaded again."""
        self._has_page = False

    def unused_seconds(self) -> float:
        """How long ago a page last asked something of this edit."""
        return time.monotonic() - self._last_use

    def files(self) -> list[tuple[float, Path]]:
        """Finished frames, weakest first. A frame whose file somebody has deleted is not finished any more."""
        with self._changed:
            self._forget_deleted()
            return sorted(self._files.items())

    def previews(self) -> list[tuple[float, Path]]:
        """Previews whose exact frame is not there yet, weakest first."""
        with self._changed:
            return sorted((strength, path) for strength, path in self._previews.items() if strength not in self._files)

    def has(self, strength: float) -> bool:
        path = self._files.get(round(strength, 4))
        return path is not None and path.exists()

    def picture(self, strength: float) -> Image.Image:
        """A finished frame, read back."""
        with Image.open(self._files[round(strength, 4)]) as image:
            return image.convert("RGB")

    def show(self, strength: float, on_step: OnStep | None = None) -> None:
        """Make the frame under the hand, where it pays a preview first; `on_step` counts the steps of both.

        Raises `Superseded` once the hand moved on, `SessionClosed` after close, `DiskFull`.
        """
        self.touch()
        if self.has(strength):
            self.session.want(strength)  # the hand is back on a finished frame: what it asked for before is stale
            return
        with self._under_the_hand(strength):
            if self._preview_pays(strength):
                self._show_with_preview(strength, on_step)
            else:
                self._keep(strength, self.session.show(strength, on_step))

    def next_strength(self, num_frames: int) -> float | None:
        """What to `fill` next for a strip of so many frames; None when it is complete.

        Waits while the frame under the hand is being made, by `show` in a thread of its own: it goes first.
        """
        with self._changed:
            while True:
                self._forget_deleted()
                strength = next_strength(num_frames, self._files, self._difference, self._hand)
                if strength is None or strength != self._hand:
                    return strength
                self._changed.wait()

    def fill(self, strength: float, on_step: OnStep | None = None) -> None:
        """Make a frame of the strip, after whatever the hand asks for. Raises `SessionClosed` and `DiskFull`."""
        self.touch()
        if self.has(strength):
            return
        if strength == 0:
            self._keep(strength, self.session.source)
            return
        for _, image in self.session.frames([strength], on_step):
            self._keep(strength, image)

    def close(self) -> None:
        """Close the session and delete the frames. Renders under way end with `SessionClosed`."""
        with self._changed:
            self._is_closed = True
            for frames in (self._files, self._previews, self._sketches):
                frames.clear()
        self.session.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _under_the_hand(self, strength: float) -> Iterator[None]:
        """Let the strip wait for the frame at `strength`, until it is there or the hand has moved on."""
        key = round(strength, 4)
        with self._changed:
            self._hand = key
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                if self._hand == key:
                    self._hand = None
                self._changed.notify_all()

    def _preview_pays(self, strength: float) -> bool:
        if strength == 0 or self.recipe.steps < PREVIEW_FROM_STEPS or not self.session.preview_steps:
            return False
        return not self.session.has(strength)

    def _show_with_preview(self, strength: float, on_step: OnStep | None) -> None:
        before = self.session.preview_steps

        def count(steps_before: int) -> OnStep | None:
            total = before + self.recipe.steps
            return None if on_step is None else lambda done, _: on_step(steps_before + done, total)

        self._keep_preview(strength, self.session.preview(strength, count(0)))
        self._keep(strength, self.session.show(strength, count(before)))

    def _forget_deleted(self) -> None:
        self._files = {strength: path for strength, path in self._files.items() if path.exists()}

    def _difference(self, first: float, second: float) -> float:
        return sketch_difference(self._sketches[first], self._sketches[second])

    def _keep(self, strength: float, image: Image.Image) -> None:
        """Write a frame, unless it is there: a file that the browser has been told of never changes."""
        key, drawn, small = round(strength, 4), _png(image), sketch(image)
        with self._changed:
            if key not in self._files:
                path = self._write(f"strength-{strength:.4f}.png", drawn)
                self._sketches[key] = small
                self._files[key] = path

    def _keep_preview(self, strength: float, image: Image.Image) -> None:
        key, drawn = round(strength, 4), _png(image)
        with self._changed:
            if key not in self._previews:
                self._previews[key] = self._write(f"preview-{strength:.4f}.png", drawn)

    def _write(self, name: str, drawn: bytes) -> Path:
        if self._is_closed:
            raise SessionClosed("This edit is no longer open; press Edit to render it again.")
        with needs_room():
            self.folder.mkdir(parents=True, exist_ok=True)
            return write_whole(self.folder / name, drawn)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


class Tab:
    """The state of one browser tab: which edit it shows. `OpenEdits` decides how long that stays open."""

    def __init__(self) -> None:
        self.serial = 0
        self._edit: OpenEdit | None = None
        self._lock = threading.Lock()

    @property
    def edit(self) -> OpenEdit | None:
        """The edit that the tab shows, while it is open."""
        edit = self._edit
        return None if edit is None or edit.is_closed else edit

    def __deepcopy__(self, memo: dict[int, Any]) -> Tab:
        """Gradio copies the initial value for every visitor: each begins with an empty tab of their own."""
        return Tab()

    def replace(self, session: Any, recipe: Recipe, cache: str, serial: int | None = None) -> OpenEdit:
        """Take a session that has just been opened; the edit before it is closed. `serial`: of one shown already.

        Raises `DiskFull`.
        """
        with self._lock:
            self.serial = serial or max(self.serial + 1, int(time.time() * 1000))  # grows past a restart of the server
            opened = OpenEdit(session, self.serial, recipe, cache)
            before, self._edit = self._edit, opened
        if before is not None:
            before.close()
        return opened

    def show(self, edit: OpenEdit) -> None:
        """Show an edit that another page, such as this one before it was loaded again, has opened."""
        with self._lock:
            self.serial = max(self.serial, edit.serial)
            before, self._edit = self._edit, edit
        if before is not None and before is not edit:
            before.close()

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            before, self._edit = self._edit, None
        if before is not None:
            before.close()
