"""advise: which instructions a small model was trained for."""

from __future__ import annotations

import pytest

from kontext_slider.instructions import Advice, advise, whole_picture_first

KNOWN = {
    "night": ["make it night", "turn day into night"],
    "recolour red": ["make the ball red"],
    "recolour blue": ["make the ball blue"],
    "snow": ["make it snow", "add snow"],
    "sketch": ["turn it into a pencil sketch"],
}


def test_a_model_that_takes_anything_knows_everything():
    """FLUX lists no instructions; a warning on every edit of it would be wrong."""
    assert advise("add a dragon", {}) == Advice(is_known=True, nearest=[])
    assert advise("add a dragon", {"night": []}).is_known


@pytest.mark.parametrize(
    "instruction",
    ["make it night", "Make it NIGHT!", "  turn day\ninto night ", "please make it look like night", "pencil sketch"],
)
def test_case_punctuation_and_filler_do_not_matter(instruction):
    """A person who adds "please" or a full stop must not be told that the model cannot do it."""
    assert advise(instruction, KNOWN).is_known


@pytest.mark.parametrize(
    ("instruction", "first"),
    [
        ("make the ball green", "make the ball red"),
        ("make it nigth", "make it night"),
        ("a pencil drawing", "turn it into a pencil sketch"),
        ("remove the snow", "add snow"),
    ],
)
def test_what_is_not_known_is_said_and_the_nearest_comes_first(instruction, first):
    """A changed colour, an opposite or a misspelling must not pass as known; the suggestion must fit."""
    advice = advise(instruction, KNOWN)
    assert not advice.is_known
    assert advice.nearest[0] == first


def test_suggestions_are_one_per_edit_and_few():
    """Three phrasings of the same edit would crowd out the other edits."""
    advice = advise("zzz", KNOWN)
    assert not advice.is_known
    assert len(advice.nearest) == 3
    edits = [name for phrase in advice.nearest for name, phrases in KNOWN.items() if phrase in phrases]
    assert len(set(edits)) == 3
    assert advise("zzz", {"night": KNOWN["night"]}).nearest[0] in KNOWN["night"]


def test_edits_of_any_picture_come_before_edits_of_things():
    """Files keep names in alphabetical order: "enlarge the ball" came second, on photographs without a ball."""
    bigger = ["enlarge the ball", "turn it into a bigger ball", "grow the ball"]
    known = {"bigger": bigger, "cloudy": ["make it cloudy", "make the sky cloudy"], "lamp": ["turn on the lamp"]}
    assert list(whole_picture_first(known)) == ["cloudy", "bigger", "lamp"]


@pytest.mark.parametrize("instruction", ["", "   ", "!?", "make it", "the"])
def test_an_instruction_without_meaning_is_not_known(instruction):
    """Filler alone equals every other filler; it must not count as a match."""
    assert not advise(instruction, KNOWN).is_known


def test_what_a_long_text_costs_is_bounded():
    """479 unknown letters took 2.5 s, 16,000 took 82 s, while everybody else waited."""

    class Counted(str):
        """Text that notes which parts of it are looked at."""

        def __getitem__(self, part):
            assert part.stop <= 2000
            return str.__getitem__(self, part)

        def lower(self):
            raise AssertionError("the whole text is looked at")

    assert advise(Counted("make it night " + "x" * 1_000_000), KNOWN).nearest[0] == "make it night"
