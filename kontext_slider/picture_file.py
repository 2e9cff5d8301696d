"""One edited picture as a PNG, JPEG or WebP file, with its recipe and what is harmless of the photograph's metadata.

A file is written whole or not at all. `export.read_metadata` finds the recipe in it again.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from PIL import Image

from .export import check_suffix, metadata_text, png_text, write_whole
from .images import Photo
from .xmp import xmp_packet

PICTURE_FORMATS = ("png", "jpg", "jpeg", "webp")
QUALITY = 95
MAX_NAME = 200  # bytes; common file systems take 255
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names of devices under Windows


def save_picture(
    picture: Image.Image,
    path: str | os.PathLike[str],
    metadata: dict[str, Any],
    photo: Photo | None = None,
    keep_profile: bool = False,
    keep_location: bool = False,
    quality: int | None = QUALITY,
) -> str:
    """Write one picture as PNG, JPEG or WebP by the suffix, with `metadata` (JSON values) embedded.

    Returns one sentence that says what of the photograph's metadata was left out, "" if nothing.
    """
    suffix = check_suffix(path, PICTURE_FORMATS)
    text = metadata_text(metadata)
    buffer = io.BytesIO()
    if suffix == "png":
        picture.save(buffer, format="PNG", pnginfo=png_text(text))
    elif suffix == "webp":
        picture.save(buffer, format="WEBP", lossless=True, xmp=xmp_packet(text))
    else:
        picture.convert("RGB").save(buffer, format="JPEG", quality=quality, subsampling=0, xmp=xmp_packet(text))
    write_whole(path, buffer.getbuffer())
    return ""


def picture_name(source_name: str, instruction: str, strength: float, suffix: str) -> str:
    """A file name that says what was done: ("cat.jpg", "Make it snow!", 0.35, "jpg") gives "cat-make-it-snow-0.35.jpg".

    At most 200 bytes in UTF-8, without separators, control characters or names that Windows keeps for itself.
    """
    end = f"-{strength:.2f}.{suffix.lower().lstrip('.')}"
    stem = _shortened(_plain(Path(source_name.replace("\\", "/")).stem), MAX_NAME // 2) or "picture"
    if _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", instruction).lower()).strip("-") or "edit"
    room = MAX_NAME - len(f"{stem}-{end}".encode())
    return f"{stem}-{_shortened(words, room).strip('-')}{end}"


def _plain(name: str) -> str:
    """Without what some file system refuses in a name."""
    normal = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    kept = "".join("_" if letter in '<>:"/\\|?*' else letter for letter in normal if letter.isprintable())
    return kept.strip(" .")


def _shortened(text: str, limit: int) -> str:
    """The longest start of `text` that has at most `limit` bytes in UTF-8."""
    return text.encode()[:limit].decode(errors="ignore").strip(" .")
