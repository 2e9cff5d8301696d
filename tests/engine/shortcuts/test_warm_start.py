"""Warm starts: cheaper, near to the exact frames, and never from too few frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kontext_slider.engine import SliderEngine
from kontext_slider.engine.cache import ByteCache
from kontext_slider.engine.queue import BatchSize
from kontext_slider.engine.shortcuts.warm_start import WarmStart
from tests.engine.helpers import smooth_offsets
from tests.tiny import INSTRUCTION, tiny_image


def warm_start(bound: float | None = 0.01, steps: int = 4, cache: ByteCache | None = None) -> WarmStart:
    cache = ByteCache(10**6) if cache is None else cache
    return WarmStart(cache, "edit", steps, bound, max_gap=0.5, min_frames=3, offsets_at=smooth_offsets)


def cubic(strength: float) -> torch.Tensor:
    """Latents (1, 2, 3) on a curve."""
    return torch.arange(6.0).reshape(1, 2, 3) * (strength**3 - strength) + 1


def steps_of(session, strength: float) -> list[int]:
    """The numbers of the steps that a frame takes."""
    seen: list[int] = []
    session.render(strength, lambda step, total: seen.append(step))
    return seen


def near(frame, exact) -> bool:
    """Whether a frame is within 40 dB."""
    off = np.asarray(frame, dtype=float) - np.asarray(exact, dtype=float)
    return bool(np.sqrt(np.mean(off**2)) < 255 * 10 ** (-40 / 20))


def test_a_curve_is_followed_and_a_jump_is_not():
    """A ghost half-way between two pictures, which the other steps would make sharp."""
    smooth, jump = warm_start(bound=0.1), warm_start(bound=0.1)
    for strength in (0.0, 0.3, 0.7, 1.0):
        smooth.keep([strength], 2, cubic(strength))
        jump.keep([strength], 2, torch.full((1, 2, 3), 2.0 if strength > 0.5 else -2.0))
    step, latents = smooth.find(0.4)
    torch.testing.assert_close(latents, cubic(0.4))
    assert step == 2 and jump.find(0.4) is None


def test_a_frame_starts_as_late_as_the_bound_allows():
    """Steps that change nothing, or a late place where the frames have parted."""
    places = warm_start(bound=0.1, steps=28)
    assert places.places == [3, 7, 10, 14, 17, 21, 24]
    for strength in (0.0, 0.3, 0.7, 1.0):
        for step in (7, 14, 15):
            places.keep([strength], step, cubic(strength))
        places.keep([strength], 24, torch.full((1, 2, 3), 2.0 if strength > 0.5 else -2.0))
    assert places.find(0.4).step == 14


@pytest.mark.parametrize(
    ("known", "what"),
    [([0.0, 1.0], "two leave no error estimate"), ([0.0, 0.6, 1.0], "wide"), ([0.5, 0.6, 0.7], "one side")],
)
def test_nothing_is_interpolated_from_too_few(known, what):
    """A polynomial runs away beyond its ends and across wide gaps."""
    places = warm_start(bound=100.0)
    places.keep(known, 2, torch.cat([cubic(strength) for strength in known]))
    assert places.find(0.3) is None, what


def test_nothing_is_kept_without_need():
    """Exact sessions, and frames of one step, fill memory with latents."""
    for bound, steps in ((None, 4), (0.01, 1)):
        cache = ByteCache(10**6)
        warm_start(bound, steps, cache).keep([0.0], 2, cubic(0.0))
        assert len(cache) == 0


def test_latents_that_the_cache_dropped_are_not_used():
    """A neighbour of None."""
    places = warm_start(bound=100.0, cache=ByteCache(3 * cubic(0.0).nbytes))
    for strength in (0.0, 0.3, 0.5, 0.7, 1.0):
        places.keep([strength], 2, cubic(strength))
    assert places.find(0.4) is None


def test_a_fast_frame_between_others_takes_the_last_steps_alone(pipe):
    """A warm start that costs as much as one from the noise, or shows another picture."""
    settings = {"steps": 4, "size": 32, "source_at_zero": False}
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION, **settings)
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION, **settings)
    for strength in (0.0, 0.1, 0.2, 0.5, 0.7):
        assert steps_of(session, strength) == [1, 2, 3, 4]
    assert steps_of(session, 0.35) == [4]
    assert near(session.render(0.35), exact.render(0.35))
    assert steps_of(session, 0.9) == [1, 2, 3, 4]  # nothing is known beyond it


def test_an_exact_frame_starts_from_the_noise(pipe):
    """The bound of "exact" is a rounding."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION, steps=4, size=32)
    for strength in (0.0, 0.1, 0.2, 0.5, 0.7):
        session.render(strength)
    assert steps_of(session, 0.35) == [1, 2, 3, 4]


def test_frames_of_one_batch_may_start_in_different_places(pipe):
    """A frame gets its neighbour's picture, or the count of steps goes back."""
    settings = {"steps": 4, "size": 32}
    engine = SliderEngine(pipe, speed="fast")
    engine.batch = BatchSize(8)
    session = engine.open(tiny_image(), INSTRUCTION, **settings)
    for strength in (0.0, 0.1, 0.2, 0.5, 0.7):
        session.render(strength)
    seen: list[int] = []
    frames = dict(session.frames([0.9, 0.35, 1.0, 0.6], lambda step, total: seen.append(step)))
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION, **settings)
    for strength, frame in frames.items():
        assert near(frame, exact.render(strength)), strength
    assert seen == sorted(seen)


def test_clear_forgets_latents(pipe):
    """After loading another slider a frame starts where the old one's was."""
    engine = SliderEngine(pipe, speed="fast")
    session = engine.open(tiny_image(), INSTRUCTION, steps=4, size=32)
    for strength in (0.0, 0.1, 0.2, 0.5, 0.7):
        session.render(strength)
    engine.clear()
    assert steps_of(session, 0.35) == [1, 2, 3, 4]
