"""The response curve of an edit: how far its frames are from the source, and how much they change, by strength.

Differences are root mean squares over whole frames, in levels of 255. The *change* up to a strength is the sum of the
differences between neighbouring frames, the length of the path. Strengths at equal steps of it are even steps: it grows
even where the distance to the source does not (frames that turn around the source, or come back to it), and the next
frame is what an eye compares a frame with. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from ..edit import check_num_frames
from .cache import cache_strength

NUM_MEASURED = 11  # strengths that a curve is measured at, evenly spaced
LEAST_DISTANCE = 0.5  # levels: frames that are all nearer to the source differ from it by rounding, which has no shape
DEAD_SPEED = 0.25  # of the mean change by strength: what changes slower stands still
DEAD_LENGTH = 0.1  # of strength: shorter stretches are not felt as dead
JUMP_SPEED = 2.0  # of the mean: what changes faster leaps
JUMP_SHARE = 0.2  # of the whole change: smaller leaps are not felt as one

Stretch = tuple[float, float]  # of strengths, from and to


@dataclass(frozen=True)
class ResponseCurve:
    """What was measured, (n,) each, n >= 2; straight lines between.

    strengths: ascending. distances: to the first frame. changes: the sum of the differences between neighbours so far.
    """

    strengths: tuple[float, ...]
    distances: tuple[float, ...]
    changes: tuple[float, ...]

    @property
    def is_flat(self) -> bool:
        """Whether too little changes to say where."""
        return max(self.distances) < LEAST_DISTANCE


def measure_response(frames: Iterable[tuple[float, Image.Image | np.ndarray]]) -> ResponseCurve:
    """The curve through two or more frames, as (strength, frame), ascending: RGB pictures of one size, or their pixels
    (H, W, 3) in levels of 255. Frames as small as `order.sketch` makes them give the same shape."""
    strengths, distances, changes = list[float](), list[float](), list[float]()
    first: np.ndarray | None = None
    for strength, frame in frames:
        pixels = np.asarray(frame, dtype=np.float32)
        if first is None:
            first = before = pixels
        strengths.append(strength)
        distances.append(rms_levels(first, pixels))
        changes.append((changes[-1] if changes else 0.0) + rms_levels(before, pixels))
        before = pixels
    return ResponseCurve(tuple(strengths), tuple(distances), tuple(changes))


def rms_levels(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square difference of two arrays of levels."""
    return float(np.sqrt(np.square(one - other, dtype=np.float32).mean(dtype=np.float64)))


def even_strengths(curve: ResponseCurve, n: int) -> list[float]:
    """`n` strengths, ascending, between which the picture changes by equal amounts; the ends are the curve's own.

    Evenly spaced strengths where the curve is flat. To four decimals, by which frames are told apart."""
    targets = np.linspace(0, 1, check_num_frames(n))
    grown = np.array(curve.strengths if curve.is_flat else curve.changes)
    shares = (grown - grown[0]) / (grown[-1] - grown[0])
    inner = np.interp(targets[1:-1], shares, curve.strengths)
    return [curve.strengths[0], *(cache_strength(float(strength)) for strength in inner), curve.strengths[-1]]


def dead_zones(curve: ResponseCurve) -> list[Stretch]:
    """Where the picture stands still: at least DEAD_LENGTH of strength at less than DEAD_SPEED of the mean speed."""
    stretches = _stretches(curve, lambda speed: speed < DEAD_SPEED)
    return [(start, end) for start, end, _ in stretches if end - start >= DEAD_LENGTH - 1e-9]


def jumps(curve: ResponseCurve) -> list[Stretch]:
    """Where it leaps: at least JUMP_SHARE of the whole change at more than JUMP_SPEED of the mean speed."""
    stretches = _stretches(curve, lambda speed: speed > JUMP_SPEED)
    return [(start, end) for start, end, share in stretches if share >= JUMP_SHARE]


def _stretches(curve: ResponseCurve, is_wanted: Callable[[float], bool]) -> list[tuple[float, float, float]]:
    """The longest runs of gaps whose speed `is_wanted`, as (from, to, share of the whole change). Speed is change by
    strength, 1 on average. None where the curve is flat."""
    found: list[tuple[float, float, float]] = []
    if curve.is_flat:
        return found
    length, total = curve.strengths[-1] - curve.strengths[0], curve.changes[-1]
    for (start, low), (end, high) in pairwise(zip(curve.strengths, curve.changes, strict=True)):
        share = (high - low) / total
        if not is_wanted(share / (end - start) * length):
            continue
        if found and found[-1][1] == start:
            start, _, before = found.pop()
            share += before
        found.append((start, end, share))
    return found
