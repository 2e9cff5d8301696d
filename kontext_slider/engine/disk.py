"""Finished frames in a folder: found again after a restart, and by other processes that use the same folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Hashable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import InvalidInput
from .cache import ByteCache, bytes_of, check_max_bytes

log = logging.getLogger(__name__)

OURS = re.compile(r"[0-9a-f]{64}\.png|frame-.*\.part")  # nothing else in the folder is ever counted or removed
PIXELS = "pixels_sha256"  # the PNG text that says which pixels the file had when it was whole


class DiskCache:
    """Frames as lossless PNG files in `folder`, at most `max_bytes` of them; those used longest ago leave first.

    A file's name is the SHA-256 of its key's values. Any number of threads and processes may share the folder, without
    locks: files appear whole (written beside, then renamed), each read touches its file's time of change, and a file
    that another process has removed meanwhile is a miss. A damaged file is a miss and is removed. Each `put` looks
    through the folder, some 20 ms for 10,000 frames.

    Raises InvalidInput where the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int):
        self.max_bytes = check_max_bytes(max_bytes)
        if not os.fspath(folder):
            raise InvalidInput("The folder for frames has no name: give its path.")
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise InvalidInput(
                f"Frames cannot be kept in {self.folder} ({error.strerror}): choose a folder that can be written to."
            ) from error

    def __contains__(self, key: Hashable) -> bool:
        return self._path(key).exists()

    def get(self, key: Hashable) -> Image.Image | None:
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:  # it is not there, or not any more
            return None
        frame = _whole_frame(data)
        if frame is None:
            log.warning("The frame %s is damaged and is removed.", path)
            _remove(path)
        return frame

    def put(self, key: Hashable, frame: Image.Image, num_bytes: int) -> None:
        """Keep `frame`, which takes `num_bytes` in memory; one larger than the whole cache is not kept."""
        if num_bytes > self.max_bytes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
            self._write(self._path(key), frame)
            self._shrink(self.max_bytes)
        except OSError as error:  # the frame itself is fine, so whoever waits for it gets it
            log.warning("A frame could not be kept in %s: %s", self.folder, error)

    def clear(self) -> None:
        """Remove all frames of the folder, whoever made them."""
        self._shrink(-1)

    def _path(self, key: Hashable) -> Path:
        return self.folder / f"{file_digest(key)}.png"

    def _write(self, path: Path, frame: Image.Image) -> None:
        """Whole or not at all."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="frame-", suffix=".part", delete=False) as file:
            try:
                frame.save(file, "PNG", compress_level=1, pnginfo=_note(frame))
                file.close()
                os.replace(file.name, path)
            except BaseException:
                file.close()
                _remove(Path(file.name))
                raise

    def _shrink(self, max_bytes: int) -> None:
        """Remove the oldest files while the folder has more than `max_bytes`; a part that a kill left ages like any."""
        files = sorted(self._files())
        total = sum(num_bytes for _, num_bytes, _ in files)
        for _, num_bytes, path in files:
            if total <= max_bytes:
                return
            _remove(path)
            total -= num_bytes

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of change in ns, bytes, path) of every file of ours that is there while we look."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if OURS.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        stat = entry.stat()
                        found.append((stat.st_mtime_ns, stat.st_size, Path(entry.path)))
        return found


class FrameCache:
    """Frames in memory, and behind it in a folder, where a frame's key has the model's hash added.

    `model_hash` is asked at every look into the folder, so it should remember its answer.
    """

    def __init__(self, memory: ByteCache[Image.Image], disk: DiskCache, model_hash: Callable[[], str]):
        self.memory = memory
        self.disk = disk
        self._model_hash = model_hash

    def __contains__(self, key: Hashable) -> bool:
        return key in self.memory or self._disk_key(key) in self.disk

    def get(self, key: Hashable) -> Image.Image | None:
        frame, generation = self.memory.get(key), self.generation
        if frame is None:
            frame = self.disk.get(self._disk_key(key))
            if frame is not None:
                self.memory.put(key, frame, bytes_of(frame), generation)
        return frame

    @property
    def generation(self) -> int:
        return self.memory.generation

    def put(self, key: Hashable, frame: Image.Image, num_bytes: int, generation: int | None = None) -> None:
        """See `ByteCache.put`."""
        disk_key = self._disk_key(key)  # before the generation is compared: after it, the hash may be another model's
        if generation in (None, self.generation):
            self.memory.put(key, frame, num_bytes, generation)
            self.disk.put(disk_key, frame, num_bytes)

    def clear(self) -> None:
        """Forget what is in memory. Files stay: their names say which model they are of."""
        self.memory.clear()

    def _disk_key(self, key: Hashable) -> Hashable:
        return self._model_hash(), key


def file_digest(key: Hashable) -> str:
    """SHA-256 of the values of a key: text, numbers, dtypes, and tuples and dataclasses of them."""
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=_fields).encode()).hexdigest()


def _fields(value: Any) -> dict[str, Any] | str:
    return str(value) if isinstance(value, torch.dtype) else asdict(value)  # raises TypeError for what is no dataclass


def _note(frame: Image.Image) -> PngInfo:
    note = PngInfo()
    note.add_text(PIXELS, hashlib.sha256(frame.tobytes()).hexdigest())
    return note


def _whole_frame(data: bytes) -> Image.Image | None:
    """The frame in a file's bytes, or None when they are not what was written."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as frame:
            frame.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow's words for cut or broken
        return None
    whole = frame.info.pop(PIXELS, None) == hashlib.sha256(frame.tobytes()).hexdigest()
    return frame.copy() if whole else None


def _remove(path: Path) -> None:
    """Another process may have done it, or (on Windows) be reading the file, which then leaves another time."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        path.unlink()
