"""High dynamic range (PQ and HLG) becomes what a browser shows on an ordinary screen.

Sources: ITU-R BT.2100-2 tables 4 and 5 (PQ, HLG), ITU-R BT.2408 (diffuse white at 203 cd/m2), Reinhard et al.,
"Photographic Tone Reproduction for Digital Images", equation 4, on the largest component, as Chromium does it.

Legend: linear light is relative to diffuse white, which is 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
WHITE = 203.0  # cd/m2
HLG_PEAK = 1000.0  # cd/m2, the display that HLG is mastered for
_STRIP = 1 << 20  # pixels worked on at a time
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020


def tone_map(image: Image.Image, transfer: int, to_srgb: np.ndarray) -> None:
    """Change `image` (RGB, 8 bits, PQ or HLG by `transfer`) into sRGB, in place.

    to_srgb: (3, 3), from the linear light of the picture's primaries to that of sRGB's.
    """
    brightest = np.array(image.getextrema()).max()
    peak = float(_linear(np.full((1, 3), brightest, np.uint8), transfer).max())
    rows = max(1, _STRIP // image.width)
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
