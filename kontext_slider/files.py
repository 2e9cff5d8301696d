"""Files that survive a full disk, a kill and a power cut: write whole or not at all, append a JSON line, digest.

Every error of a disk becomes a sentence here. A `DiskError` is one that the next file would meet, too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DiskError, InvalidInput

EVERY_FILE_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # full, quota used up, read-only, failing disk


def write_error(what: str, error: OSError) -> InvalidInput:
    """The sentence for `what`, which could not be written. A DiskError where the next file would fail as well."""
    kind, advice = InvalidInput, "choose a folder that exists and can be written to"
    if error.errno in EVERY_FILE_FAILS:
        kind, advice = DiskError, "make room on the disk, or choose a folder on another one"
    return kind(f"{what} ({error.strerror or error}): {advice}.")


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that takes the place of `path` when the block ends without an error.

    Until then it has a short hidden name in the same folder (`file.name`), so that nobody ever sees half of it. After
    an error nothing is left of it, and what was at `path` before is still there. An OSError in the block is raised as
    InvalidInput with a sentence (DiskError where the disk is full or read-only).
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it may never have been made; the first error is the one to tell
            part.unlink()
        if isinstance(error, OSError):
            raise write_error(f"Could not write {path}", error) from error
        raise


def write_whole(path: str | os.PathLike[str], data: bytes | memoryview) -> Path:
    """Write `data` to `path` so that nobody ever sees half of it, whatever stops this process."""
    with open_whole(path) as file:
        file.write(data)
    return Path(path)


def append_json_line(path: Path, value: Any) -> None:
    """Add `value` as one line of JSON, in one write, so that two batches do not mix their lines.

    A last line that a kill cut short is closed first. Raises InvalidInput, or DiskError, with a sentence.
    """
    try:
        with open(path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + json.dumps(value).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(f"Could not add a line to {path}", error) from error


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines; none where there is no file. A line that was cut short is left out.

    Raises InvalidInput for a file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}): check what it is, and its rights.") from error
    return [value for line in lines for value in _json_values(line)]


def _json_values(line: str) -> list[Any]:
    """The one value of a line, or none."""
    try:
        return [json.loads(line)]
    except (ValueError, RecursionError):
        return []


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, and see that it takes files, before hours of work are lost to it.

    Raises InvalidInput, or DiskError, with a sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(f"The folder {folder} cannot be made", error) from error
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_error(f"No file can be written to the folder {folder}", error) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """The SHA-256 of a JSON value, in hexadecimal; the order of an object's names does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    """The lower-case suffix of `path` without its dot; InvalidInput unless it is one of `known`."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        choices = ", ".join(f".{name}" for name in known)
        raise InvalidInput(f"{str(path)!r} names no format that can be written: end it in one of {choices}.")
    return suffix


def cut_to_bytes(text: str, limit: int) -> str:
    """The beginning of `text` that takes at most `limit` bytes in UTF-8, without half a character.

    A file system limits a name's bytes, and a Chinese letter takes three. Bytes that are no UTF-8 are left out.
    """
    return text.encode("utf-8", "surrogateescape")[:limit].decode("utf-8", "ignore")
