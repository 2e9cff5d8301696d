"""The temporary folder of one app process: uploads and frames. It goes when the process ends, or at the next start.

Each process has a folder of its own, `kontext-slider-<pid>-<random>`, and holds a lock on a file beside it for as long
as it lives. The operating system gives the lock back however the process ends, so a folder whose lock is free belongs
to nobody. Where somebody has deleted the lock's file, the process number in the name decides.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InvalidInput, KontextSliderError

TEMPORARY = "GRADIO_TEMP_DIR"  # gradio's variable for its temporary folder
PREFIX = "kontext-slider-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
LEAST_ROOM = 2**20  # bytes
LOCK_SECONDS = 30.0  # for others that start at the same time


class DiskFull(KontextSliderError):
    """The server has no room for a picture. The message says what to do."""

    def __init__(self) -> None:
        super().__init__("The disk of the server is full: free some room there, then try again. Nothing here is lost.")


@contextmanager
def needs_room() -> Iterator[None]:
    """Raise `DiskFull` in place of an error that says, by itself or by its cause, that a disk is full."""
    try:
        yield
    except (OSError, InvalidInput) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        if isinstance(reason, OSError) and reason.errno in NO_ROOM:
            raise DiskFull from error
        raise


def check_room(folder: str | os.PathLike[str]) -> None:
    """Raise `DiskFull` where the disk of `folder` has no room for a photograph."""
    if shutil.disk_usage(folder).free < LEAST_ROOM:
        raise DiskFull


@contextmanager
def own_folder(root: Path | None = None) -> Iterator[Path]:
    """A new temporary folder of this process in `root`, where gradio keeps uploads and frames from now on.

    Folders of dead processes go. `root` is made where it is missing; None: gradio's own. Raises OSError where it cannot
    be written to.
    """
    before = os.environ.get(TEMPORARY)
    root = root or Path(before or Path(tempfile.gettempdir(), "gradio"))
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{PREFIX}start.lock", timeout=LOCK_SECONDS):  # one process at a time looks and claims
        for folder in root.glob(f"{PREFIX}*-*/"):
            _remove_if_dead(folder)
        own = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
        lock = FileLock(_lock_of(own))
        lock.acquire(blocking=False)
    os.environ[TEMPORARY] = str(own)
    try:
        yield own
    finally:
        del os.environ[TEMPORARY]
        os.environ |= {} if before is None else {TEMPORARY: before}
        _remove(own, lock)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _remove_if_dead(folder: Path) -> None:
    lock_file = _lock_of(folder)
    if not lock_file.exists() and _is_alive(folder.name):
        return
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return
    _remove(folder, lock)


def _is_alive(name: str) -> bool:
    """Whether the process that a folder is named after is running."""
    try:
        os.kill(int(name.removeprefix(PREFIX).split("-")[0]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True
