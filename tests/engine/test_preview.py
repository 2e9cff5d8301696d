"""Previews: half the steps, the pipeline's own pixels, and never taken for the exact frame."""

from __future__ import annotations

import pytest

from kontext_slider.engine import SliderEngine
from kontext_slider.errors import InvalidInput, SessionClosed, Superseded
from tests.engine.helpers import Call, Gate, counted, reference, same
from tests.tiny import INSTRUCTION, tiny_image


@pytest.fixture
def engine(pipe):
    return SliderEngine(pipe)


def open_edit(engine, steps=4, **settings):
    return engine.open(tiny_image(40, 24), INSTRUCTION, steps=steps, size=32, **settings)


@pytest.mark.parametrize(("steps", "half"), [(4, 2), (3, 1), (2, 1)])
def test_a_preview_is_a_frame_in_half_the_steps(pipe, engine, steps, half):
    """The preview has another noise, size or place, and the picture jumps when the exact frame comes."""
    session = open_edit(engine, steps=steps, seed=2)
    assert session.preview_steps == half
    seen: list[tuple[int, int]] = []
    preview = session.preview(0.4, lambda *step: seen.append(step))
    assert same(preview, reference(pipe, open_edit(engine, steps=half, seed=2), 0.4))
    assert seen == [(step, half) for step in range(1, half + 1)]


def test_a_preview_is_never_an_exact_frame(pipe, engine):
    """A rough picture is exported, or shown as exact, because one cache holds both."""
    session = open_edit(engine)
    preview = session.preview(0.4)
    assert not session.has(0.4) and len(engine.caches.frames) == 0
    assert not open_edit(engine, steps=2).has(0.4)
    exact = session.render(0.4)
    assert same(exact, reference(pipe, session, 0.4)) and not same(exact, preview)
    assert same(session.preview(0.4), preview)


def test_no_preview_lies_on_disk(pipe, tmp_path):
    """Previews fill the folder that was asked for frames."""
    session = open_edit(SliderEngine(pipe, frame_folder=tmp_path))
    session.preview(0.4)
    assert list(tmp_path.iterdir()) == []


def test_a_preview_costs_its_steps_once_and_encodes_nothing(pipe, engine, monkeypatch):
    """The preview encodes text and source again and costs more than it saves."""
    session = open_edit(engine)
    with counted(pipe, monkeypatch) as calls:
        session.preview(0.4)
        session.preview(0.4)
        assert calls == {"transformer": 2, "vae.decode": 1}
        session.preview(0.6)
        session.render(0.6)
        assert calls == {"transformer": 8, "vae.decode": 3}


def test_a_session_of_one_step_has_no_preview(engine):
    """Half of one step is none: a division by zero, or the same work twice."""
    session = open_edit(engine, steps=1)
    assert session.preview_steps == 0
    with pytest.raises(InvalidInput, match="no preview"):
        session.preview(0.5)
    for strength in (-0.1, "0.5"):
        with pytest.raises(InvalidInput, match="strength"):
            open_edit(engine).preview(strength)


def test_previews_beyond_one_where_the_session_goes_there(engine):
    """The slider goes to 1.5 and its preview only to 1."""
    session = open_edit(engine, allow_extrapolation=True)
    assert not same(session.preview(1.4), session.preview(1.0))


def test_a_newer_strength_ends_a_preview_and_the_other_way_round(engine):
    """A drag leaves a trail of previews that are all made to the end before the picture that counts."""
    session = open_edit(engine)
    for first, second in ((session.preview, session.render), (session.render, session.preview)):
        gate = Gate(at=1)
        old = Call(first, 0.2, gate)
        gate.wait()
        new = Call(second, 0.8)
        gate.opened.set()
        with pytest.raises(Superseded):
            old.result()
        assert new.result() and not session.has(0.2)


def test_closing_ends_previews_and_lets_go_of_their_encodings(engine):
    """A closed tab's preview goes on, or its encodings stay."""
    session = open_edit(engine)
    session.preview(0.2)
    gate = Gate(at=1)
    running = Call(session.preview, 0.4, gate)
    gate.wait()
    session.close()
    gate.opened.set()
    with pytest.raises(SessionClosed):
        running.result()
    with pytest.raises(SessionClosed):
        session.preview(0.2)


def test_clear_forgets_previews(pipe, engine):
    """After loading another slider the old one's preview is shown."""
    session = open_edit(engine)
    session.preview(0.5)
    engine.clear()
    assert len(engine.caches.previews) == 0
