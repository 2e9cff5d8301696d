"""A strength for every pixel: read from a picture file, and as files tell it."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from .errors import InvalidInput
from .images import read_stored
from .photo.depth import grey_of_depth, is_deep

MAX_SIDE = 2048  # pixels; finer maps are reduced, as a strength has no fine texture


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
    """A strength map from a grey picture file: (H, W) float32, black 0 and white 1, the levels between as stored.

    Grey of 1, 8 or 16 bits is taken, and a colour picture whose channels are equal everywhere; a colour profile is
    ignored and EXIF rotation is applied. More than 2048 pixels a side are reduced. Raises InvalidInput for a picture
    with colours or transparent pixels, and UnreadableImage for a file that is none.
    """
    name = f"The mask {os.fspath(path)!r}"
    upright = read_stored(path, name, MAX_SIDE)
    values = Image.fromarray(_levels(upright, name))
    values.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX, reducing_gap=None)
    return np.array(values)


def share_of(strength: float | np.ndarray) -> tuple[float, np.ndarray | None]:
    """A strength or a strength map as files tell them: one number, and the share of it that every place gets, (H, W) in
    [0, 1], None for the whole everywhere."""
    if not isinstance(strength, np.ndarray):
        return float(strength), None
    highest = round(float(strength.max()), 6)  # 0.6, not what a float32 makes of it
    return highest, np.minimum(strength / highest, 1) if highest > 0 else None


def _levels(picture: Image.Image, name: str) -> np.ndarray:
    """(H, W) float32 in [0, 1]. Raises InvalidInput where a picture is not grey."""
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.float32) / 65535
    if is_deep(picture):
        picture = grey_of_depth(picture)
    if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InvalidInput(f"{name} has transparent pixels. Save it as a grey picture: white is the full strength.")
    if picture.mode not in ("1", "L"):
        channels = np.asarray(picture.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise InvalidInput(f"{name} has colours. Save it as a grey picture: white is the full strength.")
        return channels[..., 0].astype(np.float32) / 255
    return np.asarray(picture.convert("L")).astype(np.float32) / 255
