"""Frames between finished ones, where they can be told from them.

Along the slider a picture moves smoothly, or the slider would be none: between near neighbours it is a polynomial of
the strength, pixel by pixel. What the polynomial misses is estimated by leaving one neighbour out, and where that is
too much, nobody guesses and the frame is rendered.

Legend: K finished frames, pictures (H, W, 3) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

SIDE = 2  # neighbours on a side


def neighbours(finished: Sequence[float], strength: float, reach: float) -> list[float]:
    """Up to SIDE finished strengths on either side, the nearest first; none if a side is empty, the gap is wider than
    `reach`, or there are too few to estimate an error by."""
    below = sorted((s for s in finished if s < strength), reverse=True)[:SIDE]
    above = sorted(s for s in finished if s > strength)[:SIDE]
    if not below or not above or above[0] - below[0] > reach + 1e-9 or len(below) + len(above) < 3:
        return []
    return sorted([*below, *above], key=lambda other: abs(other - strength))


def interpolate(frames: Mapping[float, Image.Image], strength: float, decibels: float) -> Image.Image | None:
    """The frame at `strength` by the polynomial through `frames` (strength -> frame, nearest first, 3 or more); None
    where it is estimated to be further off than `decibels` of PSNR."""
    strengths = list(frames)
    pictures = np.stack([np.asarray(frame, dtype=np.float32) / 255 for frame in frames.values()])  # (K, H, W, 3)
    best = np.tensordot(lagrange(strengths, strength), pictures, 1)
    other = np.tensordot(lagrange(strengths[:-1], strength), pictures[:-1], 1)
    if estimated_psnr(best, other) < decibels:
        return None
    return Image.fromarray(np.rint(best.clip(0, 1) * 255).astype(np.uint8))


def estimated_psnr(best: np.ndarray, other: np.ndarray) -> float:
    """PSNR in dB between two guesses, at most 99."""
    return float(min(99.0, -10 * np.log10(np.mean((best - other) ** 2) + 1e-12)))


def lagrange(nodes: Sequence[float], strength: float) -> np.ndarray:
    """The weight of each of K nodes in the polynomial through them all, (K,) float32."""
    weights = [np.prod([(strength - other) / (node - other) for other in nodes if other != node]) for node in nodes]
    return np.array(weights, dtype=np.float32)
