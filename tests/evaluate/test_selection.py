"""Whether the right object was edited, on squares of known change; and words never trained on."""

import numpy as np
import pytest

from kontext_slider.evaluate.rivals import ours
from kontext_slider.evaluate.selection import held_out_losses, right_object
from kontext_slider.world.cases import Case
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline

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


def test_the_loss_of_other_words_is_in_decibels_of_the_full_edit():
    """Compared at all strengths, six sevenths of the gap would be hidden."""
    pipe, image = tiny_pipeline(), tiny_image()
    source = np.asarray(image, np.float32) / 255
    full = ours(pipe, image, INSTRUCTION, (1.0,), 0)[0]
    case = Case("scene", "snow", INSTRUCTION, source, lambda s: full if s == 1 else source, held_out=True)
    assert held_out_losses(pipe, ours, [99.0, 90.0], [case, case], 0) == pytest.approx([0, -9], abs=0.01)
