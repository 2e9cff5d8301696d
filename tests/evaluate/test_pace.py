"""Measuring how evenly edits move."""

import numpy as np
import pytest

from kontext_slider.evaluate.pace import LEVELS, even_pace, measure_way
from kontext_slider.metrics.distances import rms


def test_an_even_pace_undoes_an_uneven_way():
    """The table turned the wrong way round would make edits twice as uneven."""
    way = LEVELS**0.5
    pace = even_pace(way, is_shape=False)
    walked = np.interp(pace, LEVELS, way)
    assert np.abs(walked - LEVELS[1:-1]).max() < 0.01
    assert even_pace(way, is_shape=True) == pytest.approx((np.array(pace) + LEVELS[1:-1]) / 2, abs=1e-3)
    flat = even_pace(np.array([0, 0.2, 0.1, 0.3, 0.5, 0.5, 0.8, 0.9, 1.0]), is_shape=False)
    assert list(flat) == sorted(flat)


def test_ways_are_measured_on_the_edits_own_parameter():
    """Measured on paced edits, the table would undo itself."""
    way = measure_way("fog", [rms], 1, 64)
    assert way[0] == 0 and way[-1] == 1 and way[4] > 0.6
