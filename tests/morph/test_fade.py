"""Cross-fades, plain and along a movement, on a tiny real-class pipeline."""

import numpy as np
import pytest
from PIL import Image

from kontext_slider import base_edit
from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.morph import FADES
from kontext_slider.train.data.stages import full_edit
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline

STRENGTHS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def coded(pipe, image) -> np.ndarray:
    return np.clip(base_edit.coded(pipe, to_picture(image)), 0, 1)


@pytest.mark.parametrize("name", FADES)
def test_a_morph_begins_and_ends_at_its_pictures(pipe, name):
    """Otherwise strength 0 trains a change, and strength 1 another edit than the one asked for. What is exact must be
    exact for any model, a random one included; wide pictures, so that no side is taken for the other."""
    source, edited = tiny_image(48, 32, 1), tiny_image(48, 32, 2)
    frames = FADES[name](pipe, source, edited, INSTRUCTION, STRENGTHS, 0)
    assert all(frame.size == (48, 32) for frame in frames)
    first, middle, last = (to_picture(frame) for frame in frames)
    ends = [
        to_picture(image) if name in ("pixel-fade", "warp-fade") else coded(pipe, image) for image in (source, edited)
    ]
    assert np.abs(first - ends[0]).max() <= 1.5 / 255 and np.abs(last - ends[1]).max() <= 1.5 / 255
    assert np.abs(middle - first).max() > 0.02 and np.abs(middle - last).max() > 0.02


@pytest.mark.parametrize("name", FADES)
def test_a_morph_is_a_function_of_its_arguments(pipe, name):
    """Strengths must not depend on their neighbours in the call, nor the second call on the first; the pipeline is
    left as it was."""
    source, edited = tiny_image(seed=1), tiny_image(seed=2)
    before = full_edit(pipe, source, INSTRUCTION, 0)
    together = FADES[name](pipe, source, edited, INSTRUCTION, (0.25, 0.75), 3)
    (alone,) = FADES[name](pipe, source, edited, INSTRUCTION, (0.75,), 3)
    assert np.abs(to_picture(together[1]) - to_picture(alone)).max() <= 1.5 / 255
    assert np.array_equal(full_edit(pipe, source, INSTRUCTION, 0), before)


@pytest.mark.parametrize("name", FADES)
def test_two_sizes_are_a_sentence(pipe, name):
    """Broadcasting errors from inside a transformer tell nobody what to do."""
    with pytest.raises(InvalidInput, match="Resize one"):
        FADES[name](pipe, tiny_image(32, 32), tiny_image(48, 32), INSTRUCTION, STRENGTHS, 0)


def box(side: int, ground: float = 0.3) -> Image.Image:
    """A bright square of `side` pixels in the middle of 64 x 64."""
    picture = np.full((64, 64, 3), ground, dtype=np.float32)
    low = 32 - side // 2
    picture[low : low + side, low : low + side] = 0.9
    return to_image(picture)


def test_what_grows_is_moved_and_what_changes_its_light_is_not():
    """A cross-fade of two sizes shows both; half way there must be one box of half way. And a picture that only turns
    darker has no movement: inventing one would bend what stands still."""
    grown = to_picture(FADES["warp-fade"](None, box(20), box(36), "", (0.5,), 0)[0])
    faded = to_picture(FADES["pixel-fade"](None, box(20), box(36), "", (0.5,), 0)[0])
    truth = to_picture(box(28))
    assert np.mean((grown - truth) ** 2) < 0.4 * np.mean((faded - truth) ** 2)
    day = tiny_image(64, 64, 3)
    night = to_image(to_picture(day) * np.float32(0.4))
    both = [FADES[name](None, day, night, "", (0.5,), 0)[0] for name in ("warp-fade", "pixel-fade")]
    assert np.abs(to_picture(both[0]) - to_picture(both[1])).max() <= 1.5 / 255
