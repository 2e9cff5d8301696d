"""What a stage has done, as one JSON line per item.

A kill can come between any two bytes. A picture is renamed into place when it is complete, its line is appended after
that, and a line that was cut short counts for nothing: its item is done again, with the same result.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.files import make_folder

try:
    import fcntl
except ImportError:  # Windows: no guard against a second run
    fcntl = None  # type: ignore[assignment]


class Manifest:
    """The append-only list of a stage's records; every record has an "id", and the first of an id counts."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, dict]:
        """id -> record, in the order in which they were written. Lines that are no record are passed over."""
        records: dict[str, dict] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                record = _record(line)
                if record is not None:
                    records.setdefault(record["id"], record)
        return records

    def append(self, record: dict) -> None:
        """Add a record, on the disk when this returns. A cut last line is closed first."""
        with open(self.path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _record(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) else None


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lifts the lock even after a kill. InvalidInput if one is in there, or
    the folder cannot be made."""
    make_folder(folder)
    with open(folder / ".lock", "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InvalidInput(
                    f"Another run is at work in {folder}. Wait for it to end, or choose another folder with --out."
                ) from error
        yield
