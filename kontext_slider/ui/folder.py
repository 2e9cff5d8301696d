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
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InvalidInput, KontextSliderError

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


@dataclass(frozen=True)
class OwnFolder:
    """A claimed folder. `remove` deletes it and gives the claim back."""

    path: Path
    lock: FileLock

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)


def claim_folder(root: str | os.PathLike[str]) -> OwnFolder:
    """A new folder of this process in `root`, which is made where it is missing; folders of dead processes go.

    Raises OSError where `root` cannot be written to.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{PREFIX}start.lock", timeout=LOCK_SECONDS):  # one process at a time looks and claims
        for folder in root.glob(f"{PREFIX}*-*/"):
            _remove_if_dead(folder)
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))
        lock = FileLock(_lock_of(path))
        lock.acquire(blocking=False)
    return OwnFolder(path, lock)


def size_of(folder: str | os.PathLike[str]) -> int:
    """Bytes of all files in `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".lock")


def _remove_if_dead(folder: Path) -> None:
    lock_file = _lock_of(folder)
    if not lock_file.exists() and _is_alive(folder.name):
        return
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return
    OwnFolder(folder, lock).remove()


def _is_alive(name: str) -> bool:
    """Whether the process that a folder is named after is running."""
    try:
        os.kill(int(name.removeprefix(PREFIX).split("-")[0]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
