"""Values of any range become 8 bits: high dynamic range (PQ, HLG), integers, floats, arrays, Pillow's wide modes.

High dynamic range becomes what a browser shows on an ordinary screen.
Sources: ITU-R BT.2100-2 tables 4 and 5 (PQ, HLG), ITU-R BT.2408 (diffuse white at 203 cd/m2), Reinhard et al.,
"Photographic Tone Reproduction for Digital Images", equation 4, on the largest component, as Chromium does it.

Legend: linear light is relative to diffuse white, which is 1; H, W height and width in pixels.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ..errors import UnreadableImage

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
WHITE = 203.0  # cd/m2
HLG_PEAK = 1000.0  # cd/m2, the display that HLG is mastered for
_PIXELS = 1 << 20  # worked on at a time
_VALUES = 1 << 22
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020


def tone_map(image: Image.Image, transfer: int, to_srgb: np.ndarray) -> None:
    """Change `image` (RGB, 8 bits, PQ or HLG by `transfer`) into sRGB, in place.

    to_srgb: (3, 3), from the linear light of the picture's primaries to that of sRGB's.
    """
    brightest = np.array(image.getextrema()).max()
    peak = float(_linear(np.full((1, 3), brightest, np.uint8), transfer).max())
    rows = max(1, _PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        light = _compressed(_linear(np.asarray(image.crop(box)), transfer), peak)  # (rows, W, 3)
        image.paste(Image.fromarray(_encoded(light @ to_srgb.T.astype(np.float32))), box)


def _linear(codes: np.ndarray, transfer: int) -> np.ndarray:
    """uint8 codes (..., 3) to the light of the display."""
    steps = np.arange(256) / 255
    if transfer == PQ:
        return (_pq(steps) / WHITE).astype(np.float32)[codes]
    scene = _hlg(steps).astype(np.float32)[codes]
    luminance = (scene @ _LUMINANCE)[..., None]
    return scene * luminance**0.2 * np.float32(HLG_PEAK / WHITE)  # system gamma 1.2 at 1000 cd/m2


def _pq(signal: np.ndarray) -> np.ndarray:
    """cd/m2 = 10000 (max(E^(1/m2) - c1, 0) / (c2 - c3 E^(1/m2)))^(1/m1)"""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg(signal: np.ndarray) -> np.ndarray:
    """Light of the scene, 0..1: E^2 / 3 up to 1/2, then (exp((E - c) / a) + b) / 12"""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _compressed(light: np.ndarray, peak: float) -> np.ndarray:
    """`peak` comes down to 1; L' = L (1 + L / peak^2) / (1 + L). What is no brighter than white stays as it is."""
    if peak <= 1:
        return light
    largest = light.max(axis=-1, keepdims=True)
    return light * ((1 + largest / peak**2) / (1 + largest))


def _encoded(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB codes, uint8; what no screen of sRGB can show is clipped."""
    light = light.clip(0, 1)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055)
    return np.rint(signal * 255).astype(np.uint8)


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
    levels = ([1.5] if is_float else []) + [255.0, 65535.0]
    level = next((level for level in levels if high <= level), high)
    return 1.0 if level == 1.5 else level
