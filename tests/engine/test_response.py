"""The response curve: known curves of made-up frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import grid
from kontext_slider.engine.response import breaks, dead_zones, even_strengths, jumps, measure_response, stops_growing
from kontext_slider.errors import InvalidInput


def grey(level: float) -> Image.Image:
    """A frame of one level, whose distance to another is the difference of their levels."""
    return Image.new("RGB", (8, 6), (round(level),) * 3)


def measured(level, n: int = 11):
    """The curve of an edit whose frame at strength s has the level `level(s)`."""
    return measure_response((s, grey(level(s))) for s in grid(n))


def test_distances_are_to_the_source_and_changes_between_neighbours():
    """A picture that comes back to the source has no distance to it, and has changed all the same."""
    curve = measure_response([(0.0, grey(10)), (0.5, grey(40)), (0.75, grey(30)), (1.0, grey(10))])
    assert curve.strengths == (0.0, 0.5, 0.75, 1.0)
    assert curve.distances == (0.0, 30.0, 20.0, 0.0)
    assert curve.changes == (0.0, 30.0, 40.0, 60.0)


def test_a_difference_is_that_of_the_whole_frame():
    """A mean of absolute differences, or of one channel, would call a small strong change nothing."""
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[0, :, 1] = 200  # a sixth of the rows, one channel of three
    curve = measure_response([(0.0, grey(0)), (1.0, Image.fromarray(pixels))])
    assert curve.distances[1] == pytest.approx(200 / np.sqrt(18))


def test_even_steps_undo_a_curve():
    """A slider that does most at its end stays so: 100 s^2 has its quarters at the square roots."""
    strengths = even_strengths(measured(lambda s: 100 * s**2, n=101), 5)
    assert strengths == pytest.approx([0, 0.5, np.sqrt(0.5), np.sqrt(0.75), 1], abs=0.01)
    assert all(strength == round(strength, 4) for strength in strengths)


@pytest.mark.parametrize(
    "level",
    [
        lambda s: 100 * s,
        lambda s: 200.0 * (s > 0.55),  # one jump
        lambda s: 100 * abs(2 * s - 1),  # to the source and back
        lambda s: 100 * min(1, 4 * s) - 60 * max(0, s - 0.5),  # overshoots
        lambda s: 0.0,
        lambda s: float(s > 0.8),
    ],
)
@pytest.mark.parametrize("n", [2, 3, 11, 41, 1001])
def test_strengths_rise_from_end_to_end_whatever_the_curve(level, n):
    """A distance that falls again gave strengths in disorder, and a curve without change a division by zero."""
    strengths = even_strengths(measured(level), n)
    assert len(strengths) == n and strengths[0] == 0 and strengths[-1] == 1
    assert (np.diff(strengths) >= 0).all() and np.isfinite(strengths).all()


def test_steps_are_even_where_the_distance_turns_back():
    """By distance to the source, the way back has no steps at all."""
    strengths = even_strengths(measured(lambda s: 100 * (1 - abs(2 * s - 1))), 5)
    assert strengths == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_an_edit_that_does_nothing_is_swept_evenly():
    """Roundings of a level decided where the frames go."""
    rounded = np.full((8, 8, 3), 100, dtype=np.uint8)
    rounded[0] += 1  # an eighth of the picture, by one level
    curve = measure_response((s, Image.fromarray(rounded) if s > 0.85 else grey(100).resize((8, 8))) for s in grid(11))
    assert even_strengths(curve, 11) == pytest.approx(grid(11))
    assert dead_zones(curve) == jumps(curve) == []


def test_curves_may_start_anywhere_and_go_beyond_full():
    """A slider that goes on to 1.5 ended at 1."""
    curve = measure_response((s, grey(100 * s)) for s in (0.0, 0.5, 1.0, 1.5))
    assert even_strengths(curve, 4) == pytest.approx([0, 0.5, 1, 1.5])


@pytest.mark.parametrize("n", [1, 0, 1002])
def test_numbers_that_no_sweep_has_are_refused(n):
    """A division by zero, and a list that fills the memory."""
    with pytest.raises(InvalidInput, match="number of frames"):
        even_strengths(measured(lambda s: s), n)


def test_dead_zones_and_jumps_are_where_they_are():
    """A still stretch of half the slider, then everything at once, then the rest evenly."""
    curve = measured(lambda s: 0.0 if s < 0.45 else 100 if s < 0.55 else 100 + 120 * (s - 0.5))
    assert dead_zones(curve) == [(0.0, pytest.approx(0.4))]
    assert jumps(curve) == [(pytest.approx(0.4), pytest.approx(0.5))]


def test_an_even_edit_has_neither():
    """Marks everywhere tell nothing."""
    assert dead_zones(measured(lambda s: 100 * s)) == jumps(measured(lambda s: 100 * s)) == []


def test_the_way_around_the_source_is_no_dead_zone():
    """Frames that keep their distance to the source and change all the same: something happens there."""
    frames = [(s, Image.merge("RGB", [grey(v).getchannel(0) for v in (100 * (1 - s), 100 * s, 0)])) for s in grid(11)]
    curve = measure_response([(0.0, grey(0)), *((0.1 + 0.9 * s, frame) for s, frame in frames)])
    assert dead_zones(curve) == []


def test_the_page_has_the_same_even_strengths():
    """The strip showed other strengths than the exported file; tests/ui/scale.test.mjs has these numbers, too."""
    curve = measure_response([(0.0, grey(0)), (0.5, grey(10)), (1.0, grey(40))])
    assert even_strengths(curve, 5) == [0, 0.5, 0.6667, 0.8333, 1]


def beyond(*levels: float):
    """A curve that grows evenly to 100 at 1, and on by these levels at 1.1, 1.2, ..."""
    frames = [(0.0, grey(0)), (0.5, grey(50)), (1.0, grey(100))]
    return measure_response([*frames, *((1.1 + 0.1 * k, grey(level)) for k, level in enumerate(levels))])


@pytest.mark.parametrize(
    ("levels", "end"),
    [((110, 120, 130), None), ((110, 111, 111), 1.1), ((100, 100, 100), 1.0), ((110, 104, 90), 1.1), ((), None)],
)
def test_where_an_edit_stops_growing(levels, end):
    """A person pushes the slider on and wonders why nothing comes, or goes on where the picture turns back."""
    assert stops_growing(beyond(*levels)) == end


def test_where_an_edit_breaks():
    """Frames that fall apart beyond 1 look like growth; an edit that is all texture already is not broken by it."""
    assert breaks({0.5: 0.2, 1.0: 0.25, 1.2: 0.34, 1.3: 0.69, 1.4: 0.92}) == 1.3
    assert breaks({1.0: 0.99, 1.5: 1.0}) is None
    assert breaks({0.5: 0.1}) is breaks({}) is None


def test_the_part_up_to_full():
    """Dead zones of the range that was not asked for."""
    assert beyond(110, 120).up_to(1).strengths == (0.0, 0.5, 1.0)
    assert beyond(110, 120).up_to(1).changes == (0.0, 50.0, 100.0)
