"""Which strength to render next, so that what is finished tells most about the whole slider. Pure functions.

A strip of n frames has the strengths k / (n - 1); a hand on the slider may rest anywhere between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np
from PIL import Image

from ..edit import check_num_frames

NUM_COARSE = 5  # ends, middle, quarters: gaps wider than that may hide anything between two frames that look alike
SKETCH_SIDE = 64  # pixels; a change too small to be seen at this size is no reason to render a frame sooner


def next_strength(
    n: int,
    finished: Collection[float],
    difference: Callable[[float, float], float],
    hand: float | None = None,
) -> float | None:
    """The strength to render next for a strip of `n` frames; None when all of them, and the hand's, are finished.

    First the strength under the `hand`, on the strip or not; then the coarse frames of `ends_first`; then the middle
    of the gap whose two frames differ most, times its width. A hand anywhere on the slider sees the nearest finished
    frame; if frames change evenly inside a gap, what they are off by adds up, over the gap, to a quarter of
    difference x width, and a frame in the middle takes half of it away: the largest product is the best buy.

    Args:
        n: frames of the strip, 2 or more.
        finished: strengths, as `cache_strength` rounds them.
        difference: how unlike the frames of two finished, neighbouring strengths are, 0 or more.
        hand: where the hand rests.
    """
    if hand is not None and cache_strength(hand) not in finished:
        return hand
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
    """The strengths of an `n`-frame strip in the order in which they tell most while no frame is known: 0, 1, 1/2, ...

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


def cache_strength(strength: float) -> float:
    """Strengths that agree to four decimals are one frame."""
    return round(strength, 4)
