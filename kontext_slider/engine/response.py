"""The response curve of an edit: how far its frames are from the source, and how much they change, by strength.

Differences are root mean squares over whole frames, in levels of 255. The *change* up to a strength is the sum of the
differences between neighbouring frames, the length of the path. Strengths at equal steps of it are even steps: it grows
even where the distance to the source does not (frames that turn around the source, or come back to it), and the next
frame is what an eye compares a frame with. Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

STALL_SPEED = 0.15  # of the mean speed up to 1: a distance that grows slower beyond 1 has stopped growing
BREAK_SHARE = 0.1  # by which a transfer's `detail_share` may grow beyond 1 before the edit counts as broken

Stretch = tuple[float, float]  # of strengths, from and to


@dataclass(frozen=True)
class ResponseCurve:
    """What was measured, (n,) each, n >= 2; straight lines between.

    strengths: ascending. distances: to the first frame. changes: the sum of the differences between neighbours so far.
    """

    strengths: tuple[float, ...]
    distances: tuple[float, ...]
    changes: tuple[float, ...]

    def up_to(self, highest: float) -> ResponseCurve:
        """The part up to the strength `highest`, two measured ones or more."""
        count = sum(strength <= highest for strength in self.strengths)
        return ResponseCurve(self.strengths[:count], self.distances[:count], self.changes[:count])

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


def stops_growing(curve: ResponseCurve) -> float | None:
    """The first measured strength from 1 on behind which the distance to the source grows at less than STALL_SPEED of
    its mean speed up to 1; None where it grows to the end of the curve, or where that is 1."""
    full = dict(zip(curve.strengths, curve.distances, strict=True)).get(1.0, 0.0)
    for (start, low), (end, high) in pairwise(zip(curve.strengths, curve.distances, strict=True)):
        if start >= 1 and high - low < STALL_SPEED * full * (end - start):
            return start
    return None


def breaks(detail_shares: Mapping[float, float]) -> float | None:
    """The first strength beyond 1 at which the transfers' `detail_share` (by strength), which no colour map explains,
    is larger by BREAK_SHARE than at 1; None where it is not, or where 1 is missing."""
    full = detail_shares.get(1.0, 1.0)
    broken = [strength for strength, share in detail_shares.items() if strength > 1 and share > full + BREAK_SHARE]
    return min(broken, default=None)


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
