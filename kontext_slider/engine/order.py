"""Which strength to render next, so that a linear interpolation of the finished frames shows the whole slider well.

The page interpolates between finished frames. How wrong that is between two of them is estimated by leaving a frame
out: if frames curve evenly, the interpolation at strength s between finished a < s < b is wrong by c (s - a) (b - s).
Every finished frame between two others gives a c, and the error of a gap is at most c (b - a)^2 / 4. Pure functions.

A strip of n frames has the strengths k / (n - 1); the pointer may be anywhere between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from ..edit import check_num_frames
from .cache import cache_strength

NUM_COARSE = 5  # ends, middle, quarters: gaps wider than that may hide anything between two frames that look alike
SKETCH_SIDE = 64  # pixels; a change too small to be seen at this size is no reason to render a frame sooner
REGION_SIDE = 4  # pixels of a sketch: the estimate is that of the worst region
UNKNOWN = 255.0  # levels: the error of a gap that no frame tells anything about

Gap = tuple[float, float]


def next_strength(
    n: int, sketches: Mapping[float, np.ndarray], least: float = 0.0, pointer: float | None = None
) -> float | None:
    """The strength to render next for a strip of `n` frames; None when nothing is left to do.

    First the strength at the `pointer`, on the strip or not; then the coarse frames of `ends_first`; then the middle of
    the gap with the largest estimated interpolation error.

    Args:
        n: frames of the strip, 2 or more.
        sketches: of the finished frames, by strength as `cache_strength` rounds it.
        least: levels of 255; gaps with an estimated error of less are left as they are. 0: the strip is completed.
        pointer: the strength at the pointer.
    """
    if pointer is not None and cache_strength(pointer) not in sketches:
        return pointer
    for strength in ends_first(n)[:NUM_COARSE]:
        if cache_strength(strength) not in sketches:
            return strength
    errors = interpolation_errors(sketches)
    missing = {gap: [s for s in grid(n) if gap[0] < cache_strength(s) < gap[1]] for gap in errors}
    wide = [gap for gap, strengths in missing.items() if strengths and errors[gap] >= least]
    if not wide:
        return None
    inside = missing[max(wide, key=lambda gap: (errors[gap], gap[1] - gap[0]))]
    return inside[(len(inside) - 1) // 2]


def interpolation_errors(sketches: Mapping[float, np.ndarray]) -> dict[Gap, float]:
    """For every two neighbouring strengths of `sketches`, the largest error that a linear interpolation between them is
    estimated to have: root mean square of the worst region, levels of 255. UNKNOWN where there are two frames only."""
    strengths = sorted(sketches)
    curvature: dict[float, float] = {}
    for low, middle, high in zip(strengths, strengths[1:], strengths[2:], strict=False):
        below, above = middle - low, high - middle
        guess = (above * sketches[low] + below * sketches[high]) / (below + above)
        curvature[middle] = _worst_region(guess - sketches[middle]) / (below * above)
    known = {gap: [curvature[end] for end in gap if end in curvature] for gap in pairwise(strengths)}
    return {gap: max(ends) * (gap[1] - gap[0]) ** 2 / 4 if ends else UNKNOWN for gap, ends in known.items()}


def _worst_region(difference: np.ndarray) -> float:
    """Root mean square of the region of a sketch's difference (h, w, 3) where it is largest."""
    squares = np.square(difference, dtype=np.float64).mean(axis=2)
    regions = squares.reshape(SKETCH_SIDE // REGION_SIDE, REGION_SIDE, SKETCH_SIDE // REGION_SIDE, REGION_SIDE)
    return float(np.sqrt(regions.mean(axis=(1, 3)).max()))


def ends_first(n: int) -> list[float]:
    """The strengths of an `n`-frame strip, coarse ones first: 0, 1, 1/2, ...

    Both ends, then the middle of the gap between them, the middles of the two gaps that leaves, and so on.
    """
    return coarse_first(grid(n))


def coarse_first(strengths: Sequence[float]) -> list[float]:
    """Any strengths in that order: the least and the greatest, then the middle one, the middles of its gaps, ..."""
    ordered = sorted(strengths)
    last = len(ordered) - 1
    gaps, order = [(0, last)], [0, last] if last > 0 else list(range(len(ordered)))
    while gaps:
        left, right = gaps.pop(0)
        if right - left > 1:
            middle = (left + right) // 2
            order.append(middle)
            gaps += [(left, middle), (middle, right)]
    return [ordered[index] for index in order]


def grid(n: int) -> list[float]:
    """The `n` evenly spaced strengths of a strip, ascending from 0 to 1."""
    last = check_num_frames(n) - 1
    return [index / last for index in range(n)]


def sketch(frame: Image.Image) -> np.ndarray:
    """A frame at the size at which frames are compared, (64, 64, 3) float32, 0 to 255."""
    small = frame.convert("RGB").resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
