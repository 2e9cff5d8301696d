"""Which strength to render next, so that finished frames show most of the whole slider. Pure functions.

A strip of n frames has the strengths k / (n - 1); the pointer may be anywhere between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from ..edit import check_num_frames
from .cache import cache_strength

NUM_COARSE = 5  # ends, middle, quarters: gaps wider than that may hide anything between two frames that look alike
SKETCH_SIDE = 64  # pixels; a change too small to be seen at this size is no reason to render a frame sooner


def next_strength(
    n: int,
    finished: Collection[float],
    difference: Callable[[float, float], float],
    pointer: float | None = None,
) -> float | None:
    """The strength to render next for a strip of `n` frames; None when all of them, and the pointer's, are finished.

    First the strength at the `pointer`, on the strip or not; then the coarse frames of `ends_first`; then the middle of
    the gap with the largest product of width and difference between its two frames. The page shows the nearest finished
    frame. If frames change evenly inside a gap, the error of that adds up to a quarter of the product, and a frame in
    the middle halves it.

    Args:
        n: frames of the strip, 2 or more.
        finished: strengths, as `cache_strength` rounds them.
        difference: between the frames of two finished, neighbouring strengths, 0 or more.
        pointer: the strength at the pointer.
    """
    if pointer is not None and cache_strength(pointer) not in finished:
        return pointer
    for strength in ends_first(n)[:NUM_COARSE]:
        if cache_strength(strength) not in finished:
            return strength
    strengths = grid(n)
    done = [index for index, strength in enumerate(strengths) if cache_strength(strength) in finished]

    def worth(gap: tuple[int, int]) -> tuple[float, int]:
        left, right = gap
        width = right - left
        return width * difference(cache_strength(strengths[left]), cache_strength(strengths[right])), width

    gaps = [(left, right) for left, right in pairwise(done) if right - left > 1]
    if not gaps:
        return None
    left, right = max(gaps, key=worth)
    return strengths[(left + right) // 2]


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
    """A frame at the size at which frames are compared, (64, 64, 3), int16, 0 to 255."""
    small = frame.convert("RGB").resize((SKETCH_SIDE, SKETCH_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.int16)


def sketch_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of the pixels of two sketches, 0 to 255."""
    return float(np.abs(first - second).mean())
