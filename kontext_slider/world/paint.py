"""What everything is painted with: mixing, coverage, noise and lit surfaces.

Legend: u to the right in picture heights, v downwards in [0, 1]; colours are RGB in [0, 1]; pictures (H, W, 3) float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Colour = tuple[float, float, float]
Strength = float | NDArray  # one number, or one for every pixel


def grid(width: int, height: int):
    """u (H, W), v (H, W) at the centres of pixels, and the size of a pixel."""
    pixel = 1.0 / height
    u = ((np.arange(width) + 0.5) * pixel)[None].repeat(height, 0)
    v = ((np.arange(height) + 0.5) * pixel)[:, None].repeat(width, 1)
    return u, v, pixel


def rgb(colour) -> NDArray:
    """A colour that broadcasts over a picture, (1, 1, 3), or one for every pixel, (H, W, 3)."""
    values = np.asarray(colour, dtype=np.float64)
    return values if values.ndim == 3 else values.reshape(1, 1, 3)


def clip_colour(colour) -> Colour:
    """A colour inside [0, 1] as plain floats."""
    red, green, blue = np.clip(colour, 0, 1)
    return float(red), float(green), float(blue)


def mix(under, over, weight: NDArray) -> NDArray:
    """`over` on `under` with coverage `weight` (H, W)."""
    weight = weight[..., None]
    return under * (1 - weight) + over * weight


def cover(distance: NDArray, softness: float) -> NDArray:
    """Coverage in [0, 1] of a shape given by its signed distance (negative inside)."""
    return np.clip(0.5 - distance / softness, 0, 1)


def ease(t: NDArray) -> NDArray:
    """Smoothstep of values in [0, 1]."""
    return t * t * (3 - 2 * t)


def shade(colour: Colour | NDArray, brightness: NDArray) -> NDArray:
    """A lit surface: dark side, full colour, and a highlight above brightness 1."""
    base = rgb(colour) * np.clip(brightness, 0, 1)[..., None]
    return base + np.clip(brightness - 1, 0, 1)[..., None] * (1 - base)


def noise(rng: np.random.Generator, u: NDArray, v: NDArray, frequency: float, octaves: int) -> NDArray:
    """Value noise in [0, 1]: eased lattices of 64 x 64 values, repeated; each octave twice as fine, half as strong."""
    total, weight = np.zeros_like(u), 0.0
    for octave in range(octaves):
        scale = frequency * 2**octave
        shift = rng.random(2)
        x, y = u[0] * scale + shift[0], v[:, 0] * scale + shift[1]
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        lattice = rng.random((64, 64))
        a, b = ease(x - column)[None], ease(y - row)[:, None]
        near, far = lattice[row % 64], lattice[(row + 1) % 64]
        top = near[:, column % 64] * (1 - a) + near[:, (column + 1) % 64] * a
        low = far[:, column % 64] * (1 - a) + far[:, (column + 1) % 64] * a
        total += (top * (1 - b) + low * b) * 0.5**octave
        weight += 0.5**octave
    return total / weight
