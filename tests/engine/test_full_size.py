"""Frames carried over to the photograph: its own size, its own pixels at 0, a strength for every pixel, and what a
result says of itself. The same from `session.picture` and from a pipeline call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.drift import Drift
from kontext_slider.engine import SliderEngine
from kontext_slider.engine.cache import ByteCache
from kontext_slider.engine.full_size import FullSize, nodes_of
from kontext_slider.errors import InvalidInput, SessionClosed
from kontext_slider.images import Photo, read_photo
from kontext_slider.transfer import Transfer
from tests.engine.helpers import same
from tests.test_transfer import blocks, darker, small, textured
from tests.tiny import INSTRUCTION


@pytest.fixture
def photograph() -> Image.Image:
    return textured(150, 90)


@pytest.fixture
def session(pipe, photograph):
    with SliderEngine(pipe).open(photograph, INSTRUCTION, steps=2, size=32, allow_extrapolation=True) as session:
        yield session


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_a_picture_has_the_photographs_size_and_the_frames_edit(session, photograph):
    """A 12-megapixel photograph came back as 304 x 224 pixels."""
    picture = session.picture(0.6)
    assert picture.size == photograph.size
    fitted = Transfer.fit(session.source, session.render(0.6)).apply(photograph)
    assert same(picture, fitted), "a model that does not drift on this frame is not put in place"


def test_strength_0_is_the_photograph_to_the_last_bit(session, photograph):
    assert same(session.picture(0.0), photograph)
    session.picture(0.0).putpixel((0, 0), (1, 2, 3))
    assert same(session.picture(0.0), photograph), "a caller's changes stay the caller's"


def test_the_photograph_is_upright_and_keeps_its_alpha(pipe):
    """EXIF rotation was applied to the frame and not to the photograph; transparency was laid over white."""
    see_through = textured(90, 60).convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(see_through.size))
    with SliderEngine(pipe).open(see_through, INSTRUCTION, steps=1, size=32) as session:
        picture = session.picture(1.0)
    assert picture.mode == "RGBA"
    assert same(picture.getchannel("A"), see_through.getchannel("A"))
    turned = textured(90, 60)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.info["exif"] = exif.tobytes()
    with SliderEngine(pipe).open(turned, INSTRUCTION, steps=1, size=32) as session:
        assert session.picture(0.0).size == session.picture(1.0).size == (60, 90)


def test_a_width_is_a_bound_and_never_enlarges(session):
    assert session.picture(0.6, width=75).size == session.picture(0.0, width=75).size == (75, 45)
    assert session.picture(0.6, width=1000).size == (150, 90)


def test_a_map_of_one_value_is_that_strength(session):
    flat = session.picture(np.full((5, 7), 0.4))
    assert np.abs(levels(flat) - levels(session.picture(0.4))).max() <= 1


def test_a_map_gives_its_own_strength_to_every_pixel(session, photograph):
    half = np.zeros((90, 150))
    half[:, 75:] = 1.0
    picture, full = levels(session.picture(half)), levels(session.picture(1.0))
    assert np.array_equal(picture[:, :74], levels(photograph)[:, :74])
    assert np.abs(picture[:, 76:] - full[:, 76:]).max() <= 1


@pytest.mark.parametrize("bad", [np.full((2, 2), 1.6), np.full((2, 2), -0.1), np.zeros(3), np.array([[np.nan]])])
def test_maps_that_are_none_are_refused(session, bad):
    with pytest.raises(InvalidInput, match="strength map"):
        session.picture(bad)


def test_a_map_asks_for_no_frame_that_it_does_not_need():
    """A map from .42 to .55 rendered all eleven strengths."""
    assert nodes_of(np.array([[0.42, 0.55]]), 1.0) == [0.4, 0.5, 0.6]
    assert nodes_of(np.array([[0.0]]), 1.0) == [0.0]
    assert nodes_of(np.array([[0.6]], np.float32), 1.0) == [0.6]
    assert nodes_of(np.array([[1.0, 1.45]]), 1.5)[-1] == 1.5


def test_a_closed_session_has_no_pictures(session):
    session.close()
    for strength in (0.0, 0.5, np.full((2, 2), 0.5)):
        with pytest.raises(SessionClosed):
            session.picture(strength)


def test_a_picture_is_not_superseded_by_a_newer_strength(session):
    """Somebody saves at .3 and moves on: the file must come all the same."""
    moved_on = []

    def move_on(step: int, total: int) -> None:
        if not moved_on:
            moved_on.append(step)
            session.want(0.9)

    assert session.picture(0.3, move_on).size == (150, 90)
    assert moved_on


def test_facts_are_of_the_photograph_and_the_frame(session):
    facts = session.full_size_facts(0.5)
    assert facts["size"] == [150, 90]
    assert facts["edited_at"] == list(session.size)


def full_size_of(frame_of, may_drift: bool = False) -> tuple[FullSize, Image.Image]:
    photograph = textured(512, 384)
    source = small(photograph)
    return FullSize(Photo(photograph), source, may_drift, ByteCache(2**24), "key"), frame_of(source)


def test_an_edit_of_new_texture_says_so():
    """The picture looks soft at 100 %, and nothing had said why."""
    full_size, frame = full_size_of(lambda source: blocks(source, 8))
    assert "128 x 96 pixels" in full_size.facts(1.0, frame)["warning"]
    assert "warning" not in full_size.facts(0.0, frame)
    full_size, frame = full_size_of(darker)
    assert "warning" not in full_size.facts(1.0, frame)


def test_a_drift_is_undone_and_reported_where_a_model_may_drift():
    def drifted(source: Image.Image) -> Image.Image:
        return Drift((-3.0, 2.0), 1.0).undo(darker(source))

    full_size, frame = full_size_of(drifted, may_drift=True)
    assert np.abs(np.subtract(full_size.facts(1.0, frame)["drift"]["shift"], [3.0, -2.0])).max() < 0.3
    full_size, frame = full_size_of(drifted)
    assert "drift" not in full_size.facts(1.0, frame), "frames that are held to the source cannot drift"


def test_a_pipeline_call_gives_pictures_of_the_photographs_size(pipe, photograph):
    """The same as a session's, which renders the same frame."""
    settings = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    pictures = pipe(photograph, INSTRUCTION, strength=[0.0, 0.6], full_size=True, **settings).images
    assert same(pictures[0], photograph)
    with SliderEngine(pipe).open(photograph, INSTRUCTION, steps=2) as session:
        assert np.abs(levels(pictures[1]) - levels(session.picture(0.6))).mean() < 1
    assert pictures[1].size == photograph.size


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"strength": None}, "goes with a strength"),
        ({"height": 32}, "leave `height` out"),
        ({"output_type": "np"}, "output_type"),
        ({"image": torch.zeros(1, 3, 32, 32)}, "full_size needs"),
    ],
)
def test_what_full_size_does_not_go_with_is_refused(pipe, photograph, changes, words):
    call = {"image": photograph, "prompt": INSTRUCTION, "strength": 0.5, "full_size": True} | changes
    with pytest.raises(InvalidInput, match=words):
        pipe(**call)


def test_a_photo_that_was_read_is_taken_as_it_is(pipe, photograph):
    """Its name and profile are for saving; reading it again would lose them."""
    photo = replace(read_photo(photograph), name="holiday.jpg")
    with SliderEngine(pipe).open(photo, INSTRUCTION, steps=1, size=32) as session:
        assert session.photo is photo
