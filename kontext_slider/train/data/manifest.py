"""What a stage has done, as one JSON line per item.

A kill can come between any two bytes. A picture is renamed into place when it is complete, its line is appended after
that, and a line that was cut short counts for nothing: its item is done again, with the same result.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.files import append_json_line, make_folder, read_json_lines

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
        for record in read_json_lines(self.path):
            if isinstance(record, dict) and isinstance(record.get("id"), str):
                records.setdefault(record["id"], record)
        return records

    def append(self, record: dict) -> None:
        """Add a record, on the disk when this returns."""
        append_json_line(self.path, record)


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
