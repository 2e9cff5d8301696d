"""Measures of a sweep, on paths whose figures are known by hand."""

import numpy as np
import pytest

from kontext_slider.metrics.trajectory import (
    apparent_strengths,
    calibration_error,
    edited_mask,
    first_order,
    leakage,
    linearity_error,
    monotonicity,
    progress,
    right_object,
    second_order,
)


def on_a_line(*places: float) -> np.ndarray:
    return np.abs(np.subtract.outer(places, places)).astype(float)


def test_an_even_path_is_perfect():
    """The best slider must score best: 1/N, no detour, no error, full correlation."""
    even = on_a_line(0, 1, 2, 3, 4)
    assert first_order(even) == 0.25
    assert second_order(even) == 0
    assert linearity_error(even) == 0
    assert monotonicity(even) == pytest.approx(1)


def test_a_jump_and_a_detour_are_told_apart():
    """The paper's two orders: a jump on a straight line has no detour; a step aside has."""
    jump = on_a_line(0, 0.1, 0.2, 3.8, 4)
    assert first_order(jump) == pytest.approx(3.6 / 4)
    assert second_order(jump) == pytest.approx(0, abs=1e-9)
    aside = np.array([[0, 1, 1.0], [1, 0, 1], [1, 1, 0]])
    assert second_order(aside) == pytest.approx(1.0)


def test_a_path_straighter_than_its_distance_is_below_zero():
    """In DreamSim, which grows as a square, even paths have a negative deficit; cut off at 0, the paper's figures and
    ours would not be of one scale."""
    even = on_a_line(0, 1, 2, 3) ** 2
    assert second_order(even) == pytest.approx((1 + 1 - 4) / 4)


def test_turning_back_costs_rank_and_smoothness():
    """A slider that comes back on itself must not look smooth because its ends are right."""
    back = on_a_line(0, 3, 1, 2, 4)
    assert monotonicity(back) < 0.9
    assert second_order(back) > 1


def test_equal_distances_share_their_mean_rank():
    """Ranks .5, 2, 2, 3.5 against 0 to 3: 4.5 / sqrt(4.5 * 5). Ranked otherwise, frames that stand still would turn."""
    assert monotonicity(on_a_line(0, 1, 1, 2)) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_a_sweep_that_does_not_move_is_no_number_to_be_proud_of():
    """Dividing by nothing gave NaN, which swallows every mean."""
    still = np.zeros((5, 5))
    assert first_order(still) == second_order(still) == monotonicity(still) == 0
    assert progress(still).tolist() == [0] * 5
    assert linearity_error(still) == pytest.approx(np.mean([0.25, 0.5, 0.75, 1.0]))


def shade(strength: float) -> np.ndarray:
    return np.full((8, 8, 3), 0.2 + 0.6 * strength, np.float32)


def test_strength_is_read_from_the_frame():
    """A frame that is the truth of .37 looks like .37, between the levels of the grid."""
    scale = [shade(level / 20) for level in range(21)]
    assert apparent_strengths([shade(0.37)], scale) == pytest.approx([0.37], abs=1e-3)
    assert apparent_strengths([shade(0.0), shade(1.0)], scale).tolist() == [0, 1]
    frames = [shade(s) for s in (0.1, 0.6)]
    assert calibration_error(frames, (0.0, 0.5), scale) == pytest.approx(0.1, abs=1e-3)


def test_leakage_counts_what_changes_outside_the_edit():
    """An edit of the object that also tints the sky has leaked; one that covers everything has no outside."""
    source = np.zeros((8, 8, 3), np.float32)
    truth = source.copy()
    truth[:4] = 0.5
    mask = edited_mask(source, [source, truth])
    assert mask.mean() == 0.5
    assert leakage([source, truth], mask) == 0
    tinted = truth.copy()
    tinted[4:] = 0.1
    assert leakage([source, tinted], mask) == pytest.approx(0.2)
    assert leakage([source, truth], np.ones((8, 8), bool)) is None


SOURCE = np.zeros((8, 8, 3), np.float32)
MEANT, OTHER = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
MEANT[:3, :3], OTHER[5:, 5:] = True, True


def painted(meant: float, other: float = 0.0, *, grown: float = 0.0) -> np.ndarray:
    """A picture whose objects changed by these amounts; `grown`: the place between them changed, too."""
    picture = SOURCE.copy()
    picture[3:6, 3:6], picture[MEANT], picture[OTHER] = grown, meant, other
    return picture


@pytest.mark.parametrize(
    ("frame", "right"),
    [
        (painted(0.6), True),
        (painted(0.3), True),  # weak, but half of it is there
        (painted(0.2), False),
        (painted(0.6, 0.6), False),  # both
        (painted(0.0, 0.6), False),  # the wrong one
        (painted(0.6, 0.1), True),  # a little spill
        (SOURCE, False),
    ],
)
def test_the_object_that_was_meant_changed_and_no_other(frame, right):
    """A model that paints every ball yellow must not count as one that understood "the left ball"."""
    assert right_object(SOURCE, frame, painted(0.6), MEANT, OTHER) is right


def test_an_object_that_grows_is_looked_for_where_it_grows():
    """Inside its old outline a bigger ball changes nothing, and it may rightly cover a corner of its neighbour."""
    truth = painted(0.0, 0.0, grown=0.6)
    assert right_object(SOURCE, truth, truth, MEANT, OTHER)
    assert not right_object(SOURCE, SOURCE, truth, MEANT, OTHER)


def test_a_lone_object_only_has_to_change():
    """Scenes with one object have no others."""
    assert right_object(SOURCE, painted(0.6), painted(0.6), MEANT, None)
    assert not right_object(SOURCE, painted(0.1), painted(0.6), MEANT, None)
