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
        path = Path(os.path.abspath(os.path.expanduser(pattern)))
        try:
            is_folder = os.path.isdir(path)
            if os.path.exists(path) and not is_folder:
                pictures = [path]
            else:
                searched = sorted(path.iterdir() if is_folder else map(Path, glob.glob(str(path), recursive=True)))
                pictures = [file for file in searched if _looks_like_image(file) and file not in leave_out]
        except OSError as error:
            problems.append(f"{pattern} cannot be listed ({error.strerror}): check its rights.")
            continue
        found.update(dict.fromkeys(pictures))
        if not pictures:
            empty = "no pictures are in this folder; name one that holds some."
            absent = "there is no such picture or folder; check the path."
            problems.append(f"{pattern}: {empty if is_folder else absent}")
    return list(found), problems


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and os.path.isfile(path)
