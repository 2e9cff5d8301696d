"""What one browser tab holds: at most one open edit and its finished frames.

Two kinds of work ask the session for frames. The hand on the slider uses `session.show`: the newest wins, the older
one ends with `Superseded`. The strip and the exports use `session.frames`, which lets the hand go first and loses
nothing. Frames are kept as lossless PNG files in a folder of gradio's cache: the browser fetches each once by its
address, strength 0 keeps the source's very pixels, and an export reads back what the person saw even when the engine's
own cache has let a frame go.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from kontext_slider.errors import SessionClosed

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """How an edit is made, as an export tells it. `strengths` are those of the strip, in filling order."""

    instruction: str
    seed: int
    steps: int
    guidance: float | None
    source: str
    strengths: tuple[float, ...]


class OpenEdit:
    """One open session and its finished frames. `serial` grows with a tab's edits, so that late news is told apart."""

    def __init__(self, session: Any, serial: int, recipe: Recipe, cache: str) -> None:
        self.session = session
        self.serial = serial
        self.recipe = recipe
        Path(cache).mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="edit-", dir=cache))
        self._files: dict[float, Path] = {}
        self._is_closed = False
        self._lock = threading.Lock()

    def files(self) -> list[tuple[float, Path]]:
        """Finished frames, weakest first."""
        with self._lock:
            return sorted(self._files.items())

    def has(self, strength: float) -> bool:
        return round(strength, 4) in self._files

    def picture(self, strength: float) -> Image.Image:
        """A finished frame, read back."""
        with Image.open(self._files[round(strength, 4)]) as image:
            return image.convert("RGB")

    def show(self, strength: float, on_step: OnStep | None = None) -> None:
        """Make the frame under the hand. Raises `Superseded` once the hand moved on, `SessionClosed` after close."""
        if not self.has(strength):
            self._keep(strength, self.session.show(strength, on_step))

    def fill(self, strength: float, on_step: OnStep | None = None) -> None:
        """Make a frame of the strip, after whatever the hand asks for. Raises `SessionClosed` after close."""
        if self.has(strength):
            return
        if strength == 0:
            self._keep(strength, self.session.source)
            return
        for _, image in self.session.frames([strength], on_step):
            self._keep(strength, image)

    def close(self) -> None:
        """Close the session and delete the frames. Renders under way end with `SessionClosed`."""
        with self._lock:
            self._is_closed = True
            self._files.clear()
        self.session.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, strength: float, image: Image.Image) -> None:
        key = round(strength, 4)
        with self._lock:
            if self._is_closed:
                raise SessionClosed("This edit is no longer open; press Edit to render it again.")
            path = self.folder / f"strength-{key:.4f}.png"
            image.save(path)
            self._files[key] = path


class Tab:
    """The state of one browser tab, held by gradio for as long as the tab lives."""

    def __init__(self) -> None:
        self.serial = 0
        self.edit: OpenEdit | None = None
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tab:
        """Gradio copies the initial value for every visitor: each begins with an empty tab of their own."""
        return Tab()

    def replace(self, session: Any, recipe: Recipe, cache: str) -> OpenEdit:
        """Take a session that has just been opened; the edit before it is closed."""
        with self._lock:
            self.serial = max(self.serial + 1, int(time.time() * 1000))  # grows even past a restart of the server
            opened = OpenEdit(session, self.serial, recipe, cache)
            before, self.edit = self.edit, opened
        if before is not None:
            before.close()
        return opened

    def close(self) -> None:
        """Close what is open, when the tab is gone."""
        with self._lock:
            before, self.edit = self.edit, None
        if before is not None:
            before.close()
