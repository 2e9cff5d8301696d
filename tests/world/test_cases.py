"""Held-out edits: which are drawn in what order, and which seeds nothing may be chosen on."""

from collections import Counter

import numpy as np
import pytest

from kontext_slider.world.cases import (
    CHOOSING_SEEDS,
    REPORTING_SEED,
    balanced_case,
    choosing_seed,
    draw_cases,
    held_out_case,
    is_object_edit,
)
from kontext_slider.world.edits import EDITS, family

NUM_FAMILIES = 33


@pytest.fixture(scope="module")
def edits():
    return [balanced_case(number, 32, seed=5).edit for number in range(3 * NUM_FAMILIES + 1)]


def test_cases_take_every_edit_in_turn():
    """A hundred edits that are all "night" are one edit; a process that draws its share alone must draw the same."""
    cases = draw_cases(len(EDITS) + 3, 32, seed=5)
    assert [case.edit for case in cases[: len(EDITS)]] == list(EDITS)
    assert len(cases) == len(EDITS) + 3
    again = [held_out_case(number, 32, seed=5) for number in range(len(cases))]
    assert all(np.array_equal(a.source, b.source) for a, b in zip(cases, again, strict=True))


def test_every_number_of_edits_is_a_fair_sample(edits):
    """`--edits 20` took the first rows of the table: weather and styles only, and not one recolour."""
    families = {family(edit) for edit in EDITS}
    share = sum(is_object_edit(edit) for edit in edits[:NUM_FAMILIES]) / NUM_FAMILIES
    for number in range(1, len(edits) + 1):
        counts = Counter(families)
        counts.update(family(edit) for edit in edits[:number])
        assert max(counts.values()) - min(counts.values()) <= 1
        assert abs(sum(map(is_object_edit, edits[:number])) - share * number) <= 1
    assert set(Counter(map(family, edits[: 3 * NUM_FAMILIES])).values()) == {3}


def test_a_family_takes_its_members_in_turn(edits):
    """Three recolours that are all red say nothing of blue."""
    assert len({edit for edit in edits[: 3 * NUM_FAMILIES] if family(edit) == "recolour"}) == 3


def test_balanced_cases_are_scenes_of_the_other_order():
    """Scenes of their own would be new ones to what is kept by number, and the first of an edit must not come twice."""
    night = [case for number in (0, NUM_FAMILIES) if (case := balanced_case(number, 32, seed=5)).edit == "night"]
    place = list(EDITS).index("night")
    expected = [held_out_case(place + turn * len(EDITS), 32, seed=5) for turn in (0, 1)]
    assert len(night) == 2
    assert all(np.array_equal(a.source, b.source) for a, b in zip(night, expected, strict=True))
    assert not np.array_equal(night[0].source, night[1].source)


def test_nothing_is_chosen_on_the_scenes_that_are_reported():
    """A scale tuned on the edits of a table is tested on what chose it."""
    assert choosing_seed(0) == 0 and REPORTING_SEED not in CHOOSING_SEEDS
    with pytest.raises(ValueError, match="for reporting"):
        choosing_seed(REPORTING_SEED)
