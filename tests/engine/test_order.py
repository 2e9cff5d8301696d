"""Which strength comes next: known orders on made-up frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import ends_first, grid, next_strength, sketch, sketch_difference
from kontext_slider.engine.order import coarse_first
from kontext_slider.errors import InvalidInput


def filled(n: int, position, pointer: float | None = None) -> list[float]:
    """The order in which a strip fills whose frame at strength s lies at `position(s)` on a line."""
    finished: list[float] = []
    order: list[float] = []
    while (strength := next_strength(n, finished, lambda a, b: abs(position(a) - position(b)), pointer)) is not None:
        order.append(strength)
        finished.append(round(strength, 4))
        assert len(order) <= n + 1, "the same strength is asked for again and again"
    return order


@pytest.mark.parametrize("position", [lambda s: 0.0, lambda s: s, lambda s: s**8, lambda s: float(s > 0.3)])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 11, 41])
def test_every_frame_comes_once_whatever_the_frames_look_like(n, position):
    """A strip with a hole, or a loop that never ends, for an edit that jumps or does nothing."""
    order = filled(n, position)
    assert sorted(order) == grid(n)
    assert order[:5] == ends_first(n)[:5]


def test_the_gap_that_differs_most_is_halved_next():
    """All changes happen between 0.5 and 0.75, and the strip spends its time where nothing changes."""
    order = filled(33, lambda s: min(max(s - 0.5, 0), 0.25))
    assert set(order[5:12]) == {0.5 + k / 32 for k in range(1, 8)}
    assert order[5] == 0.625


def test_of_equal_differences_the_wider_gap_comes_first():
    """Difference alone halves a jump down to its smallest step before it looks at the wide gap beside it."""
    finished = [0.0, 0.25, 0.5, 0.75, 0.875, 1.0]
    assert next_strength(17, finished, lambda a, b: 1.0) == 0.125
    assert next_strength(17, finished, lambda a, b: 0.0) == 0.125
    assert next_strength(17, finished, lambda a, b: 5.0 if a >= 0.75 else 1.0) == 0.8125


def test_the_hand_goes_first_on_the_strip_or_beside_it():
    """The person looks at one place, and eleven other frames are made before it."""
    assert filled(3, lambda s: s, pointer=0.37) == [0.37, 0.0, 1.0, 0.5]
    assert filled(3, lambda s: s, pointer=0.5) == [0.5, 0.0, 1.0]
    assert next_strength(3, [0.37], lambda a, b: 0.0, pointer=0.37) == 0.0


def test_a_strip_of_thirds_is_found_finished():
    """1/3 is kept as 0.3333: compared as it is, it is missing for ever."""
    assert next_strength(4, [0.0, 0.3333, 0.6667, 1.0], lambda a, b: 1.0) is None


def test_sketches_see_what_a_person_sees():
    """Eight-bit pixels wrap around when subtracted, and black differs from white by one."""
    black, white = (sketch(Image.new("RGB", (100, 70), colour)) for colour in ("black", "white"))
    assert sketch_difference(black, white) == sketch_difference(white, black) == 255
    assert sketch_difference(black, sketch(Image.new("RGBA", (10, 10), "black"))) == 0
    half = Image.new("RGB", (128, 128))
    half.paste("white", (0, 0, 64, 128))
    assert sketch_difference(sketch(half), black) == 127.5


def test_numpy_counts_too():
    """Seeds, sizes and steps may be numpy's; a number of frames was refused."""
    assert grid(np.int64(3)) == [0, 0.5, 1]


@pytest.mark.parametrize("n", [1, 0, 2.0, True, None, 10**7])
def test_bad_numbers_of_frames_are_refused(n):
    """A strip of one frame divides by zero."""
    for ask in (grid, lambda n: next_strength(n, [], lambda a, b: 0.0)):
        with pytest.raises(InvalidInput, match="number of frames"):
            ask(n)


def test_strengths_are_halved_whatever_they_are():
    """An order for evenly spaced strengths only would lose or repeat some of a list."""
    assert coarse_first([0.9, 0.1, 0.3]) == [0.1, 0.9, 0.3]
    assert coarse_first([]) == [] and coarse_first([0.7]) == [0.7] and coarse_first([0.7, 0.2]) == [0.2, 0.7]
    assert sorted(coarse_first([k / 30 for k in range(31)])) == [k / 30 for k in range(31)]
