"""The files of one open edit, which the browser fetches: the photograph, parts of it, frames and their transfers.

Each file is written whole, fetched once, and never changes. They lie in a folder of gradio's cache.
"""

from __future__ import annotations

import io
import math
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..engine import sketch
from ..errors import SessionClosed
from ..files import write_whole
from ..images import Photo
from ..transfer import Transfer
from .folder import needs_room

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the photograph

SCREEN_SIDE = 2048  # pixels: the photograph as the browser gets it is not larger
LOSSLESS_PIXELS = 640 * 480  # a photograph of so few is seen enlarged
SCREEN_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}


class FrameFiles(NamedTuple):
    """A finished frame. small: its `sketch`. transfer: the file by which the browser draws the edit at the size of its
    screen; strength 0 is the photograph and has none. detail_share: the transfer's."""

    picture: Path
    small: np.ndarray
    transfer: Path | None = None
    detail_share: float = 0.0


class EditFolder:
    """A new folder in `cache`, and what is written there. May be used from several threads.

    screen: the photograph as any browser can show it, None before it is written.
    newest_tile: its box and file.

    Writing raises `DiskFull`, and `SessionClosed` once the folder is removed.
    """

    def __init__(self, cache: str) -> None:
        with needs_room():
            Path(cache).mkdir(parents=True, exist_ok=True)  # somebody may have emptied the temporary folder
            self.path = Path(tempfile.mkdtemp(prefix="edit-", dir=cache))
        self.screen: Path | None = None
        self.newest_tile: tuple[Box, Path] | None = None
        self._is_removed = False
        self._lock = threading.Lock()

    def write_screen(self, photo: Photo) -> None:
        """Write `screen`, at most SCREEN_SIDE pixels a side, unless it is there."""
        if self.screen is not None and self.screen.exists():
            return
        picture = photo.on_white()
        shrink = max(1.0, max(picture.size) / SCREEN_SIDE)
        size = round(picture.width / shrink), round(picture.height / shrink)
        picture = picture if shrink == 1 else picture.resize(size, Image.Resampling.HAMMING)
        if math.prod(picture.size) <= LOSSLESS_PIXELS:
            self.screen = self.write_picture("photograph.png", picture, "PNG", compress_level=1)
        else:
            self.screen = self.write_picture("photograph.jpg", picture, "JPEG", **SCREEN_JPEG)

    def write_tile(self, photo: Photo, box: Box) -> None:
        """Write a part of the photograph at its own size, the newest tile."""
        name = "tile-{}-{}-{}-{}.jpg".format(*box)
        path = self.path / name
        if not path.exists():
            self.write_picture(name, photo.on_white().crop(box), "JPEG", **SCREEN_JPEG)
        self.newest_tile = box, path

    def write_frame(self, strength: float, image: Image.Image, transfer: Transfer | None) -> FrameFiles:
        """Write a finished frame and its transfer; None at strength 0."""
        name, small = f"strength-{strength:.4f}", sketch(image)
        if transfer is None:
            return FrameFiles(self.write_picture(f"{name}.png", image, "PNG"), small)
        beside = self._write(f"{name}.safetensors", transfer.pack())
        return FrameFiles(self.write_picture(f"{name}.png", image, "PNG"), small, beside, transfer.detail_share)

    def write_picture(self, name: str, image: Image.Image, format: str, **options: Any) -> Path:
        """Write a picture as Pillow does by `options`, unless a file of that name is there."""
        buffer = io.BytesIO()
        image.save(buffer, format=format, **options)
        return self._write(name, buffer.getvalue())

    def remove(self) -> None:
        """Delete the folder. Nothing is written there any more."""
        with self._lock:
            self._is_removed = True
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> Path:
        with self._lock:
            if self._is_removed:
                raise SessionClosed("This edit is no longer open; press Edit to render it again.")
            path = self.path / name
            with needs_room():
                self.path.mkdir(parents=True, exist_ok=True)
                return path if path.exists() else write_whole(path, content)
