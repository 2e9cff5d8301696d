"""Several edits, one after the other: what the next one starts from, and what is not computed again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.errors import InvalidInput, SessionClosed
from kontext_slider.images import Photo
from kontext_slider.metadata import describe, is_ours, recipe, strength_map
from tests.engine.helpers import note_velocities, same
from tests.test_transfer import textured
from tests.tiny import INSTRUCTION

NEXT = "make it night"


@pytest.fixture
def photograph() -> Photo:
    see_through = textured(150, 90).convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(see_through.size))
    return Photo(see_through, icc_profile=b"profile", exif=b"exif", name="cat.jpg", other_metadata=("XMP",))


@pytest.fixture
def engine(pipe) -> SliderEngine:
    return SliderEngine(pipe)


@pytest.fixture
def first(engine, photograph):
    with engine.open(photograph, INSTRUCTION, seed=3, steps=1, guidance=1.5, size=32) as session:
        yield session


def test_the_next_edit_starts_from_the_full_size_picture(engine, first):
    """A second edit of the small frame would enlarge 32 pixels to the photograph's size."""
    second = first.then(NEXT, 0.6)
    assert same(second.photo.image, first.picture(0.6))
    by_hand = engine.open(first.picture(0.6), NEXT, seed=3, steps=1, guidance=1.5, size=32)
    assert same(second.render(0.5), by_hand.render(0.5))
    assert same(second.picture(0.5), by_hand.picture(0.5))


def test_what_saving_keeps_of_the_photograph_is_kept(first, photograph):
    """The second edit's file had lost the camera, the profile, the name and the transparency."""
    photo = first.then(NEXT, 0.6).photo
    kept = ("icc_profile", "exif", "name", "other_metadata")
    assert [getattr(photo, name) for name in kept] == [getattr(photograph, name) for name in kept]
    assert same(photo.image.getchannel("A"), photograph.image.getchannel("A"))


def test_settings_are_inherited_unless_given(first):
    """A chain that goes back to the model's defaults has another seed than the page says."""
    plain, own = first.then(NEXT), first.then(NEXT, seed=0, steps=2, guidance=0, size=24)
    assert (plain.seed, plain.steps, plain.guidance, plain.spec.size) == (3, 1, 1.5, 32)
    assert (own.seed, own.steps, own.guidance, own.spec.size) == (0, 2, 0.0, 24)
    with pytest.raises(InvalidInput, match="Say what to change"):
        first.then(" ")
    with pytest.raises(InvalidInput, match="A strength is a number"):
        first.then(NEXT, 1.2)


def test_back_at_a_strength_nothing_is_denoised(first, monkeypatch):
    """Every move of the first slider and back would render the whole of the second edit again."""
    first.then(NEXT, 0.6).render(0.5)
    first.then(NEXT, 0.2).render(0.5)
    denoised = note_velocities(monkeypatch)
    assert first.then(NEXT, 0.6).has(0.5)
    first.then(NEXT, 0.6).render(0.5)
    assert denoised == []
    first.then(NEXT, 0.6, seed=4).render(0.5)
    assert len(denoised) == 1


def test_a_closed_session_has_no_next_edit_but_a_next_edit_outlives_it(first):
    second = first.then(NEXT, 0.6)
    first.close()
    assert second.picture(0.5).size == (150, 90)
    with pytest.raises(SessionClosed):
        first.then(NEXT, 0.6)


def test_a_chain_extrapolates_where_its_first_session_does(engine, photograph):
    """The third slider stopped at 1 while the first went on to 1.5."""
    with engine.open(photograph, INSTRUCTION, steps=1, size=32, allow_extrapolation=True) as session:
        assert session.then(NEXT, 1.4).then(INSTRUCTION, 1.2).picture(1.3).size == (150, 90)


def test_the_recipe_tells_all_edits_in_their_order(first):
    """A file that tells of its last edit alone cannot be made again."""
    third = first.then(NEXT, 0.6, seed=9).then("add fog", 0.25)
    told = recipe(third, "pocket", None, "exact", None)
    assert is_ours(describe([0.5], (150, 90), "cat.jpg", told))
    assert told["instruction"] == "add fog" and told["seed"] == 9
    edits = [(edit["instruction"], edit["seed"], edit["strength"]) for edit in told["earlier_edits"]]
    assert edits == [(INSTRUCTION, 3, 0.6), (NEXT, 9, 0.25)]
    assert "earlier_edits" not in recipe(first, "pocket", None, "exact", None)


def test_maps_of_a_chain_are_told_and_share_the_room_of_a_file(first):
    """Three maps of noise were too long for a JPEG file, after all was rendered."""
    noise = np.random.default_rng(0).random((400, 600), dtype=np.float32)
    ramp = 0.5 * np.linspace(0, 1, 40)[None].repeat(30, 0)
    third = first.then(NEXT, ramp).then("add fog", noise)
    assert same(third.photo.image, first.then(NEXT, ramp).picture(noise))
    told = recipe(third, "pocket", None, "exact", None, share=noise)
    night, fog = told["earlier_edits"]
    assert night["strength"] == 0.5 and np.abs(strength_map(night) - 2 * ramp).max() < 0.01
    assert fog["strength"] == pytest.approx(noise.max()) and strength_map(told).shape == strength_map(fog).shape
    assert sum(len(edit["strength_map"]) for edit in (night, fog, told)) <= 40_000
    assert "strength_map" not in recipe(first.then(NEXT, np.zeros((2, 2))), "", None, "", None)["earlier_edits"][0]


def test_a_chain_is_opened_at_once(engine, first):
    """What `edit` writes for two edits differs from what sessions give."""
    settings = {"seed": 3, "steps": 1, "guidance": 1.5, "size": 32}
    opened = engine.open_chain(first.photo, [(INSTRUCTION, 0.6)], NEXT, **settings)
    assert same(opened.picture(0.5), first.then(NEXT, 0.6).picture(0.5))
