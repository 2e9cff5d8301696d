"""A run's folder: the note of what the run is made of, which keeps another run from going on in it, and the lock that
keeps two processes from working in it at once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidInput
from .files import make_folder, read_regular, write_json

MAX_NOTE = 2**24  # bytes of a run's note
LOCK = ".lock"  # the file in a run's folder that a process at work in it holds


def open_run(note: Path, facts: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write into a run's folder what the run is made of (JSON values by name), or compare `facts` with the `note` that
    is there; `extra` is not compared. Returns the note. InvalidInput for another run, or a note that is not readable.
    """
    if note.exists():
        return check_run(note, facts)
    note.parent.mkdir(parents=True, exist_ok=True)
    noted = _as_json({**facts, **(extra or {})})
    write_json(note, noted)
    return noted


def check_run(note: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The note of a run that is there, whose `facts` must be these; InvalidInput as `open_run`."""
    noted, wanted = read_run(note), _as_json(facts)
    if other := [name for name in wanted if noted.get(name) != wanted[name]]:
        raise other_run(note, [f"{name} ({noted.get(name)!r:.60}, not {wanted[name]!r:.60})" for name in other])
    return noted


def other_run(note: Path, differences: list[str]) -> InvalidInput:
    """The sentence for a folder that holds another run."""
    return InvalidInput(
        f"The run in {str(note.parent)!r} has another {', '.join(differences)}. Use its own settings again "
        f"({note.name}), or choose another folder."
    )


def read_run(note: Path) -> dict[str, Any]:
    """What a run is made of. InvalidInput where its note cannot be read."""
    try:
        return dict(json.loads(read_regular(note, MAX_NOTE)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(
            f"{note}, which says what run the folder holds, cannot be read ({error}). Where you know the run's "
            "settings, delete the file and give them all again; else choose another folder."
        ) from error


def _as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same as it is read back: tuples as lists, paths as text."""
    return json.loads(json.dumps(dict(facts), default=str))


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lifts the lock even after a kill. A run that fails before it writes
    anything leaves no new folder. InvalidInput if one is in there, or the folder cannot be made."""
    from filelock import FileLock, Timeout

    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        lock = FileLock(folder / LOCK, blocking=False).acquire()
    except Timeout as error:
        raise InvalidInput(
            f"Another run is at work in {folder}. Wait for it to end, or choose another folder."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise InvalidInput(
            f"{folder / '.lock'} cannot be locked ({error}). Delete it, or choose another folder."
        ) from error
    with lock:
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # the run itself may have removed its folder
                if made and os.listdir(folder) == [LOCK]:
                    (folder / LOCK).unlink()
                    for path in made:
                        path.rmdir()
            raise
