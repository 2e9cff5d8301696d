"""The drawn world and its edits: truth at every strength."""

import numpy as np
import pytest

from kontext_slider.train.pocket.edits import EDITS, PICTURE_EDITS, known_instructions
from kontext_slider.train.pocket.world import draw, draw_collage, draw_mask, random_scene


def scene(seed: int = 0):
    return random_scene(np.random.default_rng(seed))


@pytest.mark.parametrize("name", EDITS)
def test_strength_zero_is_the_source_and_the_way_only_grows(name):
    """An edit that changes something at 0, or turns back, would teach the slider to do so."""
    drawn = scene(3)
    source = draw(drawn, 64, 64)
    pictures = [EDITS[name].apply(drawn, s, 64, 64) for s in np.linspace(0, 1, 6)]
    assert np.abs(pictures[0] - source).max() < 1e-5
    distances = [float(np.sqrt(np.mean((p - source) ** 2))) for p in pictures]
    assert all(a <= b + 1e-4 for a, b in zip(distances, distances[1:], strict=False)), distances
    assert distances[-1] > 0.004
    assert all(p.shape == (64, 64, 3) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in pictures)


def test_a_scene_is_the_same_picture_at_two_sizes():
    """Training at 128 px would teach nothing for 256 px if textures depended on the size."""
    drawn = scene(1)
    large = draw(drawn, 256, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
    small = draw(drawn, 128, 128).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.sqrt(np.mean((large - small) ** 2)) < 0.03


@pytest.mark.parametrize("name", ["recolour-blue", "smaller"])
def test_edits_of_the_object_leave_the_rest_alone(name):
    """A recolour that draws other clouds would teach leakage."""
    drawn = scene(5)
    before, after = EDITS[name].apply(drawn, 0, 96, 96), EDITS[name].apply(drawn, 1, 96, 96)
    changed = np.abs(before - after).max(-1) > 0.02
    assert changed.any()
    far = np.arange(96)[:, None] < 96 * (drawn.thing.v - 1.2 * drawn.thing.size)
    assert not changed[np.broadcast_to(far, changed.shape)].any()


def test_the_mask_covers_the_object():
    """Leakage is measured outside of this mask."""
    drawn = scene(2)
    mask = draw_mask(drawn, 128, 128)
    assert 0.005 < mask.mean() < 0.3
    assert mask[int(128 * (drawn.thing.v - drawn.thing.size / 2)), int(128 * drawn.thing.u)]


def test_seeds_decide_and_wide_pictures_work():
    """Drawing must be a function of its seed for a run to be repeated."""
    one, two = (draw_collage(np.random.default_rng(7), 80, 48) for _ in range(2))
    assert np.array_equal(one, two) and one.shape == (48, 80, 3)
    wide = random_scene(np.random.default_rng(0), aspect=2.0)
    assert draw(wide, 128, 64).shape == (64, 128, 3)


def test_every_instruction_belongs_to_one_edit():
    """One sentence with two meanings cannot be learned."""
    sentences = [text for texts in known_instructions().values() for text in texts]
    assert len(sentences) == len(set(sentences))
    assert len(PICTURE_EDITS) >= 12 and len(EDITS) >= 20
    assert not any("{" in text or "%" in text for text in sentences)
