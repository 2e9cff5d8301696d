"""Values of any range become 8 bits: integers, floats, arrays, Pillow's wide modes."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ..errors import UnreadableImage

_VALUES = 1 << 22


def is_deep(image: Image.Image) -> bool:
    """Whether `image` is grey of 16 or 32 bits, or of floats."""
    return image.mode in ("F", "I") or image.mode.startswith("I;16")


def grey_of_depth(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to L. I;16 is full range; I and F hold anything, so their values decide."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        values = values.astype(np.uint16, copy=False)
    return Image.fromarray(_to_uint8(values))


def image_of_array(array: np.ndarray) -> Image.Image:
    """H x W, or H x W x 1, 2, 3 or 4 channels to L, LA, RGB or RGBA. Raises UnreadableImage for any other array."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise UnreadableImage(
            f"An image array must be height x width, or height x width x 1, 2, 3 or 4 channels, not {array.shape}."
        )
    if array.size == 0:
        raise UnreadableImage("The image array has no pixels. Give one of at least 1 x 1.")
    return Image.fromarray(np.ascontiguousarray(_to_uint8(array)))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Any depth to 0..255. uint16 is full range; other integers and floats are taken by the values they hold."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise UnreadableImage(f"An image array must hold numbers, not {values.dtype}. Use uint8, or floats in 0..1.")
    top = 65535.0 if values.dtype == np.uint16 else _white_level(values)
    result = np.empty(values.shape, np.uint8)
    rows = max(1, _VALUES // max(1, values[0].size))
    for start in range(0, len(values), rows):
        strip = values[start : start + rows].astype(np.float64) / top
        result[start : start + rows] = np.rint(np.clip(strip, 0, 1) * 255)
    return result


def _white_level(values: np.ndarray) -> float:
    """The value that means white: 1 (floats only, with room for overshoot), 255, 65535, or the largest value."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableImage("The image holds values that are not numbers (NaN or infinity). Replace them first.")
    is_float = np.issubdtype(values.dtype, np.floating)
    if low < -0.25 * max(high, 1e-6) and is_float:
        raise UnreadableImage(f"The image holds values from {low:g} to {high:g}. Scale them to 0..1 first.")
    if is_float and high <= 1.5:
        return 1.0
    return next((level for level in (255.0, 65535.0) if high <= level), high)
