"""Synthetic scenes and their edits: ground truth at every strength."""

from dataclasses import replace

import numpy as np
import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.train.pocket.pairs import Mix, choose_edit, draw_edit, draw_source
from kontext_slider.world import pictures
from kontext_slider.world.edits import (
    EDITS,
    PICTURE_EDITS,
    SHAPES,
    Edit,
    family,
    known_instructions,
    trained_instructions,
)
from kontext_slider.world.pictures import crop_photograph, draw_collage, put_under_sky
from kontext_slider.world.scene import draw, draw_mask, random_scene
from kontext_slider.world.things import KINDS

CATEGORIES = {
    "stylization",
    "environment_change",
    "reimagining",
    "appearance_change",
    "material_change",
    "attribute_change",
    "object_morphing",
}


def scene_for(name: str, seed: int = 0):
    """A scene that the edit can be done to, and the place of one of its objects."""
    rng = np.random.default_rng(seed)
    while True:
        drawn = random_scene(rng)
        if targets := EDITS[name].targets(drawn):
            return drawn, targets[-1]


@pytest.mark.parametrize("name", EDITS)
def test_strength_zero_is_the_source_and_the_way_only_grows(name):
    """An edit that changes something at 0, or turns back, would teach the slider to do so."""
    drawn, target = scene_for(name, 3)
    source = draw(drawn, 64, 64)
    highest = 1.5 if EDITS[name].goes_on else 1.0
    pictures = [EDITS[name].apply(drawn, s, 64, 64, target) for s in np.linspace(0, highest, 6)]
    assert np.abs(pictures[0] - source).max() < 2e-3  # a colour goes to OKLab and back
    distances = [float(np.sqrt(np.mean((p - source) ** 2))) for p in pictures]
    assert all(a <= b + 1e-3 for a, b in zip(distances, distances[1:], strict=False)), distances
    assert distances[-1] > 0.004
    assert all(p.shape == (64, 64, 3) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in pictures)


@pytest.mark.parametrize("name", [name for name, edit in EDITS.items() if edit.takes_map])
def test_a_strength_for_every_pixel_is_each_pixel_of_its_own_picture(name):
    """A map that is judged by another picture than the edit's own would measure the truth's error, not the model's."""
    drawn, target = scene_for(name, 3)
    strengths = [0.0, 0.3, 0.55, 1.0]
    chosen = np.random.default_rng(0).integers(len(strengths), size=(48, 64))
    pictures = [EDITS[name].apply(drawn, s, 64, 48, target, unit=2) for s in strengths]
    mixed = EDITS[name].apply(drawn, np.array(strengths)[chosen], 64, 48, target, unit=2)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, np.choose(chosen[..., None], pictures), atol=1e-5)
    same = EDITS[name].apply(drawn, np.full((48, 64), 0.55), 64, 48, target, unit=2)
    np.testing.assert_allclose(same, pictures[2], atol=1e-5)


def test_edits_that_move_outlines_take_no_map():
    """Half of a tree that has grown is no picture that anybody wants: callers ask `takes_map` first."""
    assert {name for name, edit in EDITS.items() if not edit.takes_map} == {*SHAPES} - {"stripes"}
    drawn, target = scene_for("bigger")
    with pytest.raises(ValueError, match="'bigger' moves outlines"):
        EDITS["bigger"].apply(drawn, np.zeros((64, 64)), 64, 64, target)
    with pytest.raises(ValueError, match="not \\(3, 4\\)"):
        EDITS["fog"].apply(drawn, np.zeros((3, 4)), 64, 64)


def test_the_world_is_as_large_as_promised():
    """The paper's categories, thirty edits, six kinds of objects, eight phrasings each, some held out."""
    families = {"recolour" if name.startswith("recolour-") else name for name in EDITS}
    assert len(families) >= 30 and len(PICTURE_EDITS) >= 12 and len(KINDS) >= 6
    assert {edit.category for edit in EDITS.values()} == CATEGORIES
    for edit in EDITS.values():
        noun = edit.kinds[0] if edit.kinds else None
        assert len(edit.instructions(noun)) >= 8 and len(edit.instructions(noun, held_out=True)) >= 2, edit.name


def test_held_out_phrasings_are_new_sentences_of_known_words():
    """A held-out sentence that was trained proves nothing; one with an unknown word is no fair question."""
    sentences = {text for texts in trained_instructions().values() for text in texts}
    words = {word for text in sentences for word in text.split()}
    for edit in EDITS.values():
        for text in edit.instructions(held_out=True):
            assert text not in sentences and set(text.split()) <= words, text


@pytest.mark.parametrize("name", ["recolour-blue", "smaller", "metal", "stripes", "into-ball"])
def test_edits_of_an_object_leave_the_other_objects_alone(name):
    """An instruction that chooses an object must not teach the model to edit its neighbour."""
    for seed in range(20):
        drawn, target = scene_for(name, seed)
        before, after = (EDITS[name].apply(drawn, s, 96, 96, target) for s in (0, 1))
        changed = np.abs(before - after).max(-1) > 0.03
        assert (changed & draw_mask(drawn, target, 96, 96)).any()
        near = np.abs((np.arange(96) + 0.5) / 96 - drawn.things[target].u) < 1.2 * drawn.things[target].size
        assert not changed[:, ~near].any()


def test_names_choose_one_object():
    """With two trees "the tree" says nothing; left and right are as the viewer sees them."""
    for seed in range(40):
        drawn = random_scene(np.random.default_rng(seed))
        names = [drawn.name_of(index) for index in range(len(drawn.things))]
        assert len(set(names)) == len(names)
        places = dict(zip(names, (thing.u for thing in drawn.things), strict=True))
        for name, place in places.items():
            if name.startswith("left "):
                assert place < places[name.replace("left", "right")]


def test_masks_cover_their_objects_and_nearer_ones_hide_farther_ones():
    """Which object was edited is measured from these masks."""
    drawn = random_scene(np.random.default_rng(2))
    first = drawn.things[0]
    mask = draw_mask(drawn, 0, 128, 128)
    assert 0.003 < mask.mean() < 0.3
    hidden = replace(drawn, things=(first, replace(first, size=1.3 * first.size)))
    assert draw_mask(hidden, 0, 128, 128).sum() < 0.3 * mask.sum()


def test_a_scene_is_the_same_picture_at_two_sizes():
    """Training at 128 px would teach nothing for 256 px if textures depended on the size."""
    drawn = random_scene(np.random.default_rng(1))
    large = draw(drawn, 256, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
    small = draw(drawn, 128, 128).reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.sqrt(np.mean((large - small) ** 2)) < 0.03


def test_seeds_decide_and_wide_pictures_work():
    """Drawing must be a function of its seed for a run to be repeated."""
    for draw_one in (draw_collage, crop_photograph):
        one, two = (draw_one(np.random.default_rng(7), 80, 48) for _ in range(2))
        assert np.array_equal(one, two) and one.shape == (48, 80, 3) and one.dtype == np.float32
    wide = random_scene(np.random.default_rng(0), aspect=2.0)
    assert draw(wide, 128, 64).shape == (64, 128, 3)


def test_skies_are_smooth_and_bright_and_leave_the_ground_alone():
    """Sample photographs have no sky, and half of a photograph of a place is one."""
    smooth, bright = [], []
    for seed in range(20):
        ground = np.random.default_rng(seed).random((64, 96, 3), dtype=np.float32) * 0.5
        picture = put_under_sky(np.random.default_rng(seed), ground)
        assert picture.shape == ground.shape and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 1
        assert np.array_equal(picture[-1], ground[-1]) and not np.array_equal(picture[0], ground[0])
        smooth.append(np.abs(np.diff(picture[0], axis=0)).mean())
        bright.append(picture[0].mean())
    assert max(smooth) < 0.05 and np.mean(bright) > 0.6


def test_some_pictures_without_a_scene_have_a_sky():
    """The share of a mix is what decides."""
    rng = np.random.default_rng
    bare, under = ([draw_source(rng(seed), 64, 64, Mix(0.5, 0.5, skies=s))[0] for seed in range(8)] for s in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(bare, under, strict=True))


def test_a_cross_fade_is_not_the_truth():
    """If it were, the best slider would be two pictures and an opacity."""
    worst = []
    for name in ("night", "snow", "neon", "desert", "bigger", "stripes", "into-ball"):
        drawn, target = scene_for(name, 1)
        source, half, full = (EDITS[name].apply(drawn, s, 64, 64, target) for s in (0, 0.5, 1))
        worst.append(np.sqrt(np.mean((half - (source + full) / 2) ** 2) / np.mean((full - source) ** 2)))
    assert min(worst) > 0.03, worst


def test_without_a_scene_only_edits_of_the_whole_picture_are_asked_for():
    """A photograph has no drawn tree to paint."""
    rng = np.random.default_rng(0)
    assert all(choose_edit(rng, None, object_share=1.0).is_global for _ in range(50))
    target, words, of_object = draw_edit(rng, draw_collage(rng, 48, 48), None, 1.4, object_share=1.0)
    assert target.shape == (48, 48, 3) and words and not of_object


def test_every_instruction_belongs_to_one_edit():
    """One sentence with two meanings cannot be learned."""
    for table in (trained_instructions(), known_instructions()):
        sentences = [text for texts in table.values() for text in texts]
        assert len(sentences) == len(set(sentences))
        assert not any("{" in text or "%" in text for text in sentences)


@pytest.fixture(scope="module")
def distance():
    """One of the two that the reparametrisation is measured by."""
    return find_distance("pocket")


@pytest.mark.parametrize("name", ["fog", "night", "underwater", "posterise"])
def test_equal_steps_look_equal(name, distance):
    """A haze whose density grows evenly is nearly whole at half the slider."""
    drawn, target = scene_for(name, 4)

    def unevenness(reparametrised: bool) -> float:
        frames = [EDITS[name].apply(drawn, s, 256, 256, target, reparametrised) for s in np.linspace(0, 1, 7)]
        way = distance(frames)[0]
        return float(np.abs(way / way[-1] - np.linspace(0, 1, 7)).mean())

    assert unevenness(True) < min(0.09, 0.8 * unevenness(False))


def test_parameters_rise_and_end_where_the_edit_ends():
    """A parameter that falls would turn the slider back; one that misses 1 would never finish the edit."""
    assert len({edit.reparametrisation for edit in EDITS.values()}) == len({family(name) for name in EDITS})
    for edit in EDITS.values():
        values = [edit.parameter_at(s) for s in np.linspace(0, 1.5, 31)]
        assert values == sorted(values) and values[0] == 0 and edit.parameter_at(1.0) == 1 and values[-1] == 1.5


@pytest.mark.parametrize("numbers", [(), (0.1, 0.2), (0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.7)])
def test_an_edit_without_reparametrisation_says_so(numbers):
    """A new row of the table, and a KeyError at its first training pair."""
    with pytest.raises(ValueError, match="'haze' has no reparametrisation.*UNCHANGED"):
        Edit("haze", "stylization", ("add {}",), ("haze",), numbers, on_picture=lambda picture, s: picture)


def test_photographs_name_the_package_that_is_missing(monkeypatch):
    """A FileNotFoundError of a path that nobody chose; the command line shows the sentence of an InvalidInput."""
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    pictures._photograph.cache_clear()
    with pytest.raises(ImportError, match="pip install"):
        crop_photograph(np.random.default_rng(0), 32, 32)
    with pytest.raises(InvalidInput, match="pip install"):
        draw_source(np.random.default_rng(0), 32, 32, Mix(collages=0.0, photographs=1.0))
