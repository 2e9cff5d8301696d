"""Which pictures the words of a command line name: files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from .photo.opener import RAW_SUFFIXES

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"),
    *RAW_SUFFIXES,
)


def find_images(patterns: Iterable[str], leave_out: Collection[Path] = ()) -> tuple[list[Path], list[str]]:
    """The pictures that files, folders (what is directly in them) and globs name, each once, and a sentence for each
    name that leads nowhere. `leave_out` (absolute paths) are not taken from folders and globs."""
    found: dict[Path, None] = {}  # in the order in which they are named
    problems = []
    for pattern in patterns:
        try:
            named, is_search = _matches(pattern)
        except OSError as error:
            problems.append(f"{pattern} cannot be listed ({error.strerror}): check its rights.")
            continue
        pictures = [path for path in named if not is_search or path not in leave_out]
        found.update(dict.fromkeys(pictures))
        if not pictures:
            is_folder = os.path.isdir(os.path.expanduser(pattern))
            empty = "no pictures are in this folder; name one that holds some."
            problems.append(
                f"{pattern}: {empty if is_folder else 'there is no such picture or folder; check the path.'}"
            )
    return list(found), problems


def _matches(pattern: str) -> tuple[list[Path], bool]:
    """What a word of the command line names, and whether it was searched for rather than named outright."""
    path = Path(os.path.abspath(os.path.expanduser(pattern)))
    if os.path.isdir(path):
        return [file for file in sorted(path.iterdir()) if _looks_like_image(file)], True
    if os.path.exists(path):
        return [path], False
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return [file for file in found if _looks_like_image(file)], True


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and os.path.isfile(path)
