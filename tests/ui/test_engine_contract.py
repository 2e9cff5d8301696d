"""One contract, three engines: the fake one of the page's tests, the real one on the tiny pipeline, and ZeroGPU's.

The page uses of an engine what stands here and no more, so a page that works on the fake works on the real one.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.errors import InvalidInput, SessionClosed, Superseded
from kontext_slider.images import read_image
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.zero_gpu import ZeroGpuEngine
from tests.ui.fake_engine import FakeEngine
from tests.ui.fake_spaces import FakeSpaces
from tests.ui.visitor import Visitor, strengths

SETTINGS = {"seed": 5, "steps": 2, "guidance": 2.0}
TIMEOUT = 30


@pytest.fixture(params=["fake", "real", "zero"])
def engine(request, monkeypatch) -> Any:
    if request.param == "fake":
        return FakeEngine()
    if request.param == "zero":
        monkeypatch.setitem(sys.modules, "spaces", FakeSpaces().module())
        return ZeroGpuEngine(FakeEngine())
    return SliderEngine(request.getfixturevalue("pipe"))


@pytest.fixture
def session(engine, photograph) -> Any:
    with engine.open(photograph, "make it night", **SETTINGS) as session:
        yield session


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.mode == other.mode and one.tobytes() == other.tobytes()


def test_a_pipeline_says_what_the_page_shows(engine):
    pipe = engine.pipe
    assert all(isinstance(phrase, str) for phrases in pipe.known_instructions.values() for phrase in phrases)
    assert pipe.defaults.size > 0 and pipe.defaults.steps > 0 and pipe.defaults.guidance >= 0
    assert pipe.vae_scale_factor > 0 and pipe.transformer.config.guidance_embeds in (True, False)


def test_a_session_carries_its_settings(session, photograph):
    assert session.instruction == "make it night"
    assert {name: getattr(session, name) for name in SETTINGS} == SETTINGS
    assert session.preview_steps in (0, 1), "0: a session that has none"
    assert session.photo.name == photograph.name and same(session.photo.image, read_image(photograph))
    assert session.source.mode == "RGB" and max(session.source.size) <= max(session.photo.image.size)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": None}, {"steps": 0}, {"steps": "many"}, {"guidance": float("nan")}]
)
def test_wrong_settings_are_refused_when_an_edit_is_opened(engine, photograph, wrong):
    with pytest.raises(InvalidInput):
        engine.open(photograph, "make it night", **{**SETTINGS, **wrong})


def test_a_frame_is_the_same_however_it_is_made(session):
    steps: list[tuple[int, int]] = []
    shown = session.render(0.5, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)] and session.has(0.5) and not session.has(0.25)
    assert shown.size == session.source.size and not same(shown, session.source)
    assert same(session.render(0), session.source), "strength 0 is the untouched source"
    [(strength, frame)] = session.frames([0.5], lambda done, total: steps.append((done, total)))
    assert strength == 0.5 and same(frame, shown) and len(steps) == 2, "a finished frame costs nothing"


def test_a_preview_is_no_frame(session):
    if not session.preview_steps:
        pytest.skip("this session has no preview, and the page asks for none")
    steps: list[tuple[int, int]] = []
    preview = session.preview(0.25, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 1)] and preview.size == session.source.size
    assert not session.has(0.25)
    assert not same(preview, session.render(0.25))


def test_a_picture_has_the_photographs_own_size(session):
    assert same(session.picture(0), session.photo.image)
    assert session.picture(0.5).size == session.photo.image.size
    assert session.picture(0.5, width=160).size == (160, 120)
    half = np.repeat([[0.0, 0.6]], 4, axis=0).repeat(5, axis=1)
    masked = session.picture(half)
    assert same(masked.crop((0, 0, 100, 240)), session.photo.image.crop((0, 0, 100, 240)))
    assert same(
        session.picture(half, width=160).crop((0, 0, 50, 120)), session.picture(0, width=160).crop((0, 0, 50, 120))
    )
    edited = np.asarray(masked.crop((220, 0, 320, 240)), dtype=int)
    assert np.abs(edited - np.asarray(session.picture(0.6).crop((220, 0, 320, 240)))).max() <= 2
    facts = session.full_size_facts(0.5)
    assert facts["size"] == list(session.photo.image.size) and facts["edited_at"] == list(session.source.size)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "0.5", None])
def test_a_strength_that_is_none_is_refused(session, strength):
    for use in (session.render, session.want, session.has):
        with pytest.raises(InvalidInput):
            use(strength)


@pytest.mark.parametrize("newer", ["render", "want"])
def test_a_newer_strength_ends_the_render_of_an_older_one(session, newer):
    def move_on(done: int, total: int) -> None:
        mover = threading.Thread(target=session.want if newer == "want" else session.render, args=(0.0,))
        mover.start()
        mover.join(TIMEOUT)

    with pytest.raises(Superseded):
        session.render(0.5, move_on)
    assert not session.has(0.5)


def test_closing_ends_a_render(session):
    with pytest.raises(SessionClosed):
        session.render(0.5, lambda done, total: session.close())
    with pytest.raises(SessionClosed):
        list(session.frames([0.25]))
    session.close()  # twice is fine
    assert session.instruction == "make it night" and session.photo.name, "attributes stay"


def test_the_handlers_show_the_frames_of_the_engine(engine, photograph, tmp_path):
    visitor = Visitor(Handlers(engine, str(tmp_path)))
    assert strengths(visitor.edit(photograph, num_frames=3, seed=5)[-1]) == [0, 0.5, 1]
    assert strengths(visitor.commit(0.3)[-1]) == [0, 0.3, 0.5, 1]
    own = visitor.opened.session
    with engine.open(photograph, "make it night", seed=5, steps=own.steps, guidance=own.guidance) as session:
        for strength, frame in visitor.opened.frames():
            with Image.open(frame.picture) as picture:
                assert np.array_equal(np.asarray(picture.convert("RGB")), np.asarray(session.render(strength)))
