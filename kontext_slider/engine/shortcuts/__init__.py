"""Everything approximate: frame interpolation, warm start and step skipping. Without this folder the engine works on at
the speed "exact".

"fast" and "fastest" may differ from the exact frames by what was measured on held-out edits and photographs
(`benchmarks/bench_fidelity.py`): all frames of an edit together have 40 dB of PSNR or more to the exact ones at "fast",
32 or more at "fastest". A single frame may have less, and interpolated sweeps are not as smooth or rough as exact ones,
so measure smoothness at "exact".
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from ...base import Velocity
from ..cache import ByteCache
from .interpolation import OffsetsAt, interpolate, neighbours
from .step_skipping import StepSkipping
from .warm_start import Start, WarmStart


@dataclass(frozen=True)
class Bounds:
    """The error that shortcuts may cause, and when they are tried.

    start_error: root mean square error of latents up to which a frame starts in the middle of its steps; None: never.
    start_gap: of strength, the widest gap that a start is interpolated across.
    skip_error: root mean square error of latents that skipped steps may cause; None: none is skipped.
    frame_psnr: dB of PSNR that every tile of an interpolated frame is estimated to have; None: none is interpolated.
    frame_gap: of strength, the widest gap that frames are interpolated across.
    interactive_gap: the same for a frame that somebody waits for, up to strength 1 of a slider whose offsets are
        polynomial in s (`degree` in projector.py): there the error estimate can be trusted. Other frames stay nearer to
        the exact one. An interactive frame stays that strength's frame, in sweeps too.
    min_frames: finished frames that either is interpolated from; with five, sweeps keep most of their curvature
        (benchmarks/LOG.md).
    leading: frames at the start of a sweep that are rendered before the coarse ones, so that they are there soon: as
        many as cost no more in all.
    """

    start_error: float | None = None
    start_gap: float = 0.5
    skip_error: float | None = None
    frame_psnr: float | None = None
    frame_gap: float = 0.1
    interactive_gap: float = 0.5
    min_frames: int = 5
    leading: int = 2


FAST = Bounds(start_error=0.003, skip_error=0.03, frame_psnr=54.0)
BOUNDS = {
    "fast": FAST,
    "fastest": replace(
        FAST, start_error=0.025, skip_error=0.1, frame_psnr=34.0, frame_gap=0.5, min_frames=3, leading=1
    ),
}


class Shortcuts:
    """Of one edit. May be used by several threads, one at a time.

    Args:
        latents: a cache for latents of all edits. key: of this edit in it.
        steps: of a frame.
        offsets_at: the slider's offsets at strengths (B,).
        is_smooth: whether they are polynomial in s.
        source_is_frame: whether frames are held to the source, which then counts as a finished frame at strength 0.
    """

    def __init__(
        self,
        bounds: Bounds,
        latents: ByteCache[Tensor],
        key: Hashable,
        steps: int,
        offsets_at: OffsetsAt,
        is_smooth: bool,
        source_is_frame: bool,
    ) -> None:
        self.bounds, self._latents, self._steps = bounds, latents, steps
        self._offsets_at, self._is_smooth = offsets_at, is_smooth
        self._always = {0.0} if source_is_frame else set[float]()
        self.rendered = set[float]()  # strengths whose frames were not interpolated
        self.skipping = StepSkipping(bounds.skip_error)
        self._warm = WarmStart(latents, key, steps, bounds.start_error, bounds.start_gap, bounds.min_frames, offsets_at)

    # The three shortcuts

    def frame(
        self, strength: float, interactive: bool, find: Callable[[float], Image.Image | None]
    ) -> Image.Image | None:
        """The frame interpolated from rendered ones, which `find` has by strength; None where it must be rendered."""
        bounds, smooth = self.bounds, self._is_smooth and strength <= 1
        if bounds.frame_psnr is None:
            return None
        max_gap = bounds.interactive_gap if interactive and smooth else bounds.frame_gap
        near = neighbours(tuple(self.rendered | self._always), strength, max_gap, bounds.min_frames)
        frames = {other: frame for other in near if (frame := find(other)) is not None}
        if not near or len(frames) < len(near):
            return None
        return interpolate(frames, strength, bounds.frame_psnr, self._offsets_at)

    def start(self, strength: float) -> Start | None:
        """Where the frame at `strength` may start; None: at the noise."""
        return self._warm.find(strength)

    def velocity(self, velocity: Velocity, sigmas: Tensor, strengths: Sequence[float], from_noise: bool) -> Velocity:
        """`velocity` of frames at `strengths`, with steps skipped, that also remembers their latents."""
        skipping, generation = self.skipping.wrap(velocity, sigmas, from_noise), self._latents.generation

        def remembered(latents: Tensor, step: int) -> Tensor:
            self._warm.keep(strengths, step, latents, generation)
            return skipping(latents, step)

        return remembered if from_noise else skipping

    # What they need to know, and in which order frames help most

    def note(self, rendered: Sequence[float], interpolated: Sequence[float]) -> None:
        """Frames that are finished now. An interpolated one is not interpolated from."""
        self.rendered.difference_update(interpolated)
        self.rendered.update(rendered)

    def order(self, strengths: Sequence[float]) -> list[float]:
        """Coarse frames before those that can be interpolated between them."""
        learns = self.bounds.start_error is not None or self.bounds.frame_psnr is not None
        return streaming_order(strengths, self.bounds.leading) if learns else list(strengths)

    def batch_size(self, largest: int) -> int:
        """How many frames of a sweep to denoise at once: one until the schedule of steps is known, and no more than it
        takes until there are enough frames to interpolate from."""
        if self.needs_schedule:
            return 1
        missing = self.bounds.min_frames - len(self.rendered | self._always)
        return min(largest, missing) if missing > 0 else largest

    @property
    def needs_schedule(self) -> bool:
        """Whether the next frame makes the schedule of steps for all others."""
        return self.skipping.needs_schedule(self._steps)


def streaming_order(strengths: Sequence[float], leading: int = 1) -> list[float]:
    """An order to make different strengths in, which are wanted in the order in which they are given.

    The first `leading` ones come first, so that the first frames are there soon. The others are approached: the nearest
    made strengths on either side of a wanted one enclose a gap, whose middle is made next, until that is the wanted one
    itself. So coarse frames come before those between them, and at most log2(n) + 2 frames of a sweep of n are made
    before it is their turn."""
    ascending = sorted(strengths)
    last = len(ascending) - 1
    places = {strength: place for place, strength in enumerate(ascending)}
    made, order = [-1, last + 1], list[float]()  # places, ascending, between two that stand for no strength

    def next_place(low: int, high: int) -> int:
        if high > last:
            return last
        return 0 if low < 0 else (low + high) // 2

    for number, wanted in enumerate(places[strength] for strength in strengths):
        while made[right := bisect_left(made, wanted)] != wanted:
            place = wanted if number < leading else next_place(made[right - 1], made[right])
            insort(made, place)
            order.append(ascending[place])
    return order
