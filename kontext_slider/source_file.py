"""A photograph that edits have made, as one file to edit further: nothing of it is lost on the way.

The file is a PNG, which any program shows. A chunk of our own holds what upright sRGB pixels do not: name, colour
profile and camera data of the photograph that it was made of, as a later result keeps them, and the edits.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .edit import EarlierEdit
from .files import write_whole
from .images import Photo, read_photo
from .metadata import chain_facts, is_ours, strength_map
from .photo.opener import open_unlimited

CHUNK = b"ksRC"  # ancillary, private, not to be copied by programs that change the pixels; text chunks have a limit


def save_source(photo: Photo, path: str | os.PathLike[str]) -> Path:
    """Write a photograph with its `earlier_edits` so that `read_source` gives it back: pixels to the last bit, strength
    maps in 8 bits and at most 512 pixels a side. Raises InvalidInput or DiskError where it cannot be written."""
    facts = chain_facts(photo.earlier_edits) | {
        "name": photo.name,
        "icc_profile": _text(photo.icc_profile),
        "exif": _text(photo.exif),
        "other_metadata": list(photo.other_metadata),
        "sha256": photo.sha256,
    }
    info, buffer = PngInfo(), BytesIO()
    info.add(CHUNK, json.dumps(facts).encode())
    photo.image.save(buffer, format="PNG", pnginfo=info, compress_level=1)
    return write_whole(path, buffer.getbuffer())


def read_source(path: str | os.PathLike[str]) -> Photo:
    """`read_photo`, and of a file of `save_source` all that it has kept. Raises UnreadableImage."""
    photo = read_photo(path)
    facts = _facts(path) if Path(path).suffix.lower() == ".png" else None
    return photo if facts is None else _described(photo.image, facts)


def _described(image: Image.Image, facts: Mapping[str, Any]) -> Photo:
    earlier = []
    for edit in facts.get("earlier_edits", []):
        made = {name: value for name, value in edit.items() if name not in ("strength", "strength_map")}
        earlier.append(EarlierEdit(made, float(edit["strength"]), strength_map(edit)))
    return Photo(
        image,
        _bytes(facts["icc_profile"]),
        _bytes(facts["exif"]),
        Path(facts["name"]).name,
        tuple(facts["other_metadata"]),
        tuple(earlier),
        str(facts["sha256"]),
    )


def _facts(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What `save_source` has written into a PNG file; None for the file of anybody else."""
    try:
        with open_unlimited(Path(path).read_bytes()) as picture:
            facts = json.loads(dict(getattr(picture, "private_chunks", []))[CHUNK])
        is_whole = {"name", "icc_profile", "exif", "other_metadata", "sha256"} <= facts.keys()
        is_chain = is_ours({"instruction": "", "earlier_edits": facts.get("earlier_edits", [])})
        if is_whole and is_chain:
            _described(Image.new("RGB", (1, 1)), facts)
            return facts
    except Exception:  # a stranger's file can break a decoder in any way: it is a photograph like others
        return None
    return None


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
