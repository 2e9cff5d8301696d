"""Which strength comes next: known orders on made-up frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import ends_first, grid, interpolation_errors, next_strength, sketch
from kontext_slider.engine.order import SKETCH_SIDE, UNKNOWN, coarse_first
from kontext_slider.errors import InvalidInput


def even(level: float) -> np.ndarray:
    """A sketch of one colour."""
    return np.full((SKETCH_SIDE, SKETCH_SIDE, 3), level, dtype=np.float32)


def filled(n: int, level, least: float = 0.0, pointer: float | None = None) -> list[float]:
    """The order in which a strip fills whose frame at strength s has the colour `level(s)`."""
    sketches: dict[float, np.ndarray] = {}
    order: list[float] = []
    while (strength := next_strength(n, sketches, least, pointer)) is not None:
        order.append(strength)
        sketches[round(strength, 4)] = even(level(strength))
        assert len(order) <= n + 1, "the same strength is asked for again and again"
    return order


@pytest.mark.parametrize("level", [lambda s: 0.0, lambda s: 255 * s, lambda s: 255 * s**8, lambda s: 255.0 * (s > 0.3)])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 11, 41])
def test_every_frame_comes_once_whatever_the_frames_look_like(n, level):
    """A strip with a hole, or a loop that never ends, for an edit that jumps or does nothing."""
    order = filled(n, level)
    assert sorted(order) == grid(n)
    assert order[:5] == ends_first(n)[:5]


def test_the_gap_that_is_interpolated_worst_is_halved_next():
    """All bends are between 0.5 and 0.75, and the strip spends its time where a straight line would do."""
    order = filled(33, lambda s: 1000 * min(max(s - 0.5, 0), 0.25) ** 2)
    assert sum(0.5 < s < 0.8 for s in order[5:16]) >= 6 and all(0.3 < s < 0.9 for s in order[5:16])


def test_an_edit_that_is_a_straight_line_needs_five_frames():
    """Eleven frames are rendered of a fade that two describe."""
    assert filled(11, lambda s: 255 * s, least=1.0) == ends_first(11)[:5]
    assert len(filled(41, lambda s: 255 * s**3, least=1.0)) > 5


@pytest.mark.parametrize("curve", [lambda s: 200 * s * s, lambda s: 120 + 120 * np.sin(3 * s), lambda s: 250 * s**3])
def test_the_estimate_bounds_what_is_wrong(curve):
    """The page trusts the estimate where it does not render: too low, and the picture jumps when it is rendered."""
    sketches = {s: even(curve(s)) for s in (0.0, 0.2, 0.5, 0.8, 1.0)}
    for (low, high), error in interpolation_errors(sketches).items():
        middle = (low + high) / 2
        actual = abs((curve(low) + curve(high)) / 2 - curve(middle))
        assert actual * 0.8 < error < actual * 4 + 0.1


def test_the_worst_region_counts():
    """One small thing that appears all at once is lost in the mean of the picture."""
    thing = even(0)
    thing[:8, :8] = 200
    errors = interpolation_errors({0.0: even(0), 0.5: even(0), 1.0: thing})
    assert errors[0.5, 1.0] > 20


def test_two_frames_tell_nothing_of_what_is_between():
    """The first and the last frame of anything lie on a straight line."""
    assert interpolation_errors({0.0: even(0), 1.0: even(9)}) == {(0.0, 1.0): UNKNOWN}
    assert interpolation_errors({0.5: even(0)}) == {} and interpolation_errors({}) == {}


def test_the_pointer_goes_first_on_the_strip_or_beside_it():
    """The person looks at one place, and eleven other frames are made before it."""
    assert filled(3, lambda s: s, pointer=0.37) == [0.37, 0.0, 1.0, 0.5]
    assert filled(3, lambda s: s, pointer=0.5) == [0.5, 0.0, 1.0]
    assert next_strength(3, {0.37: even(0)}, pointer=0.37) == 0.0


def test_a_strip_of_thirds_is_found_finished():
    """1/3 is kept as 0.3333: compared as it is, it is missing for ever."""
    assert next_strength(4, {s: even(s) for s in (0.0, 0.3333, 0.6667, 1.0)}) is None


def test_sketches_see_what_a_person_sees():
    """Eight-bit pixels wrap around when subtracted, and black differs from white by one."""
    black, white = (sketch(Image.new("RGB", (100, 70), colour)) for colour in ("black", "white"))
    assert np.abs(black - white).min() == np.abs(white - black).max() == 255
    assert np.array_equal(black, sketch(Image.new("RGBA", (10, 10), "black")))


def test_numpy_counts_too():
    """Seeds, sizes and steps may be numpy's; a number of frames was refused."""
    assert grid(np.int64(3)) == [0, 0.5, 1]


@pytest.mark.parametrize("n", [1, 0, 2.0, True, None, 10**7])
def test_bad_numbers_of_frames_are_refused(n):
    """A strip of one frame divides by zero."""
    for ask in (grid, lambda n: next_strength(n, {})):
        with pytest.raises(InvalidInput, match="number of frames"):
            ask(n)


def test_strengths_are_halved_whatever_they_are():
    """An order for evenly spaced strengths only would lose or repeat some of a list."""
    assert coarse_first([0.9, 0.1, 0.3]) == [0.1, 0.9, 0.3]
    assert coarse_first([]) == [] and coarse_first([0.7]) == [0.7] and coarse_first([0.7, 0.2]) == [0.2, 0.7]
    assert sorted(coarse_first([k / 30 for k in range(31)])) == [k / 30 for k in range(31)]
