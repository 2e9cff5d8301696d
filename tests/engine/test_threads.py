"""Several threads on one engine: who goes first, who gives up, and that nothing is lost."""

from __future__ import annotations

import random

import pytest

from kontext_slider.engine import SliderEngine
from kontext_slider.errors import SessionClosed, Superseded
from tests.engine.helpers import Call, Gate, alike, counted, reference, same, until
from tests.tiny import INSTRUCTION, tiny_image


@pytest.fixture
def engine(pipe):
    return SliderEngine(pipe)


def open_edit(engine, seed=0, steps=4):
    return engine.open(tiny_image(40, 24), INSTRUCTION, seed=seed, steps=steps)


def waits(engine, number: int):
    """Wait until so many threads wait for the device."""
    until(lambda: engine.queue.num_waiting == number)


def test_a_newer_strength_ends_the_render_under_way_between_two_steps(pipe, engine):
    """A drag queues up stale renders, and the slider shows where the pointer was seconds ago."""
    session, gate = open_edit(engine), Gate(at=2)
    old = Call(session.render, 0.2, gate)
    gate.wait()
    new = Call(session.render, 0.8)
    waits(engine, 1)
    gate.opened.set()
    with pytest.raises(Superseded, match="0.2"):
        old.result()
    assert gate.steps == [(1, 4), (2, 4)]
    assert alike(new.result(), reference(pipe, session, 0.8))
    assert not session.has(0.2)
    assert alike(session.render(0.2), reference(pipe, session, 0.2))


def test_of_many_waiting_strengths_only_the_newest_is_rendered(pipe, engine, monkeypatch):
    """Stale requests wait their turn, one whole frame each, only to find that nobody wants them."""
    session, other, gate = open_edit(engine), open_edit(engine, seed=1), Gate()
    busy = Call(other.render, 0.5, gate)
    gate.wait()
    stale = []
    for strength in (0.1, 0.2, 0.3):
        stale.append(Call(session.render, strength))
        waits(engine, 1)
        until(lambda: all(not call.is_alive() for call in stale[:-1]))
    newest = Call(session.render, 0.9)
    for call in stale:
        with pytest.raises(Superseded):  # at once, while the device is still busy
            call.result()
    assert busy.is_alive() and newest.is_alive()
    with counted(pipe, monkeypatch) as calls:
        gate.opened.set()
        newest.result()
        busy.result()
    assert calls["vae.decode"] == 2


def test_a_cached_frame_also_supersedes(engine):
    """The hand is back where a frame exists, and the device goes on with a frame that nobody waits for."""
    session, gate = open_edit(engine), Gate()
    session.render(0.5)
    old = Call(session.render, 0.2, gate)
    gate.wait()
    session.render(0.5)
    gate.opened.set()
    with pytest.raises(Superseded):
        old.result()


def test_the_same_strength_is_rendered_once_for_all_who_ask(pipe, engine, monkeypatch):
    """A double event on release kills its own render, or does the work twice."""
    session, twin, gate = open_edit(engine), open_edit(engine), Gate()
    with counted(pipe, monkeypatch) as calls:
        first = Call(session.render, 0.5, gate)
        gate.wait()
        more = [Call(session.render, 0.5), Call(twin.render, 0.5)]
        gate.opened.set()
        frames = [call.result() for call in (first, *more)]
    assert calls == {"transformer": 4, "vae.decode": 1}
    assert all(same(frame, frames[0]) for frame in frames) and frames[0] is not frames[1]


def test_whoever_joined_a_render_that_ends_early_goes_on_alone(pipe, engine):
    """Two people look at the same edit; one moves on and the other's picture never comes."""
    session, twin, gate = open_edit(engine), open_edit(engine), Gate()
    first = Call(session.render, 0.5, gate)
    gate.wait()
    joined = Call(twin.render, 0.5)
    newer = Call(session.render, 0.6)
    waits(engine, 1)
    gate.opened.set()
    with pytest.raises(Superseded):
        first.result()
    assert alike(joined.result(), reference(pipe, twin, 0.5))
    assert alike(newer.result(), reference(pipe, session, 0.6))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_render_goes_first_between_two_steps_of_a_sweep_which_goes_on(pipe, engine, seed):
    """A drag waits for the whole strip, or kills it: of the same session (seed 0) or of another (seed 1)."""
    session, gate = open_edit(engine), Gate(at=2)
    other = open_edit(engine, seed=seed)
    sweep = Call(lambda: list(session.sweep(4, gate)))  # three frames and the source
    gate.wait()
    seen: list[int] = []
    render = Call(other.render, 0.7, lambda *_: seen.append(len(gate.steps)))
    waits(engine, 1)
    gate.opened.set()
    assert alike(render.result(), reference_later(pipe, other, 0.7, sweep))
    assert same(render.result(), open_edit(SliderEngine(pipe), seed=seed).render(0.7))  # as if nobody else were here
    assert seen == [2, 2, 2, 2]  # all its steps fell between the sweep's second and third
    assert gate.steps == [(step, 12) for step in range(1, 13)]
    for strength, frame in sweep.result():
        assert alike(frame, reference(pipe, session, strength))


def reference_later(pipe, session, strength, busy):
    """The plain pipeline takes no turns: use it when the engine is done."""
    busy.result()
    return reference(pipe, session, strength)


def test_a_render_of_the_frame_a_sweep_is_making_waits_for_it(pipe, engine, monkeypatch):
    """The frame under way is thrown away and made again."""
    session, gate = open_edit(engine), Gate(at=1)
    with counted(pipe, monkeypatch) as calls:
        sweep = Call(lambda: list(session.frames([0.1, 1.0], gate)))
        gate.wait()
        render = Call(session.render, 0.1)
        gate.opened.set()
        assert same(render.result(), sweep.result()[0][1])
    assert calls == {"transformer": 8, "vae.decode": 2}


def test_a_sweeps_frame_is_urgent_while_somebody_waits_for_it(engine):
    """The pointer rests on the frame that the strip is making, and everybody else's frames go before it."""
    session, other, gate = open_edit(engine), open_edit(engine, seed=1), Gate(at=1)
    sweep = Call(lambda: next(session.frames([0.1, 1.0], gate)))
    gate.wait()
    mine = Call(session.render, 0.1)
    [turn] = engine.queue.claims
    until(lambda: turn.urgent)
    steps_before: list[int] = []
    others = Call(other.render, 0.7, lambda *_: steps_before.append(len(gate.steps)))
    waits(engine, 1)
    gate.opened.set()
    assert same(mine.result(), sweep.result()[1])
    others.result()
    assert steps_before == [4, 4, 4, 4]


def test_a_pointer_that_leaves_a_sweeps_frame_lets_others_pass(engine):
    """The frame stays urgent for a pointer that has long left, and its new place waits."""
    session, gate = open_edit(engine), Gate(at=1)
    sweep = Call(lambda: next(session.frames([0.1, 1.0], gate)))
    gate.wait()
    old = Call(session.render, 0.1)
    [turn] = engine.queue.claims
    until(lambda: turn.urgent)
    steps_before: list[int] = []
    new = Call(session.render, 0.7, lambda *_: steps_before.append(len(gate.steps)))
    with pytest.raises(Superseded):
        old.result()
    waits(engine, 1)
    gate.opened.set()
    assert new.result() and sweep.result()
    assert steps_before == [1, 1, 1, 1]


def test_wanting_a_finished_frame_drops_the_one_under_way(engine):
    """The hand is back on a finished frame, which needs no render, and the stale one is made to the end."""
    session, gate = open_edit(engine), Gate(at=2)
    stale = Call(session.render, 0.2, gate)
    gate.wait()
    session.want(0.5)
    gate.opened.set()
    with pytest.raises(Superseded):
        stale.result()
    assert len(gate.steps) == 2 and not session.has(0.2)


def test_a_sweeps_own_thread_may_render_between_its_frames(pipe, engine):
    """The loop over a sweep supersedes itself."""
    session = open_edit(engine)
    for strength, _ in session.sweep(3):
        assert alike(session.render(0.1 + strength / 2), reference(pipe, session, 0.1 + strength / 2))


def test_an_abandoned_sweep_leaves_the_device_free(engine):
    """Leaving the loop early locks everybody else out."""
    session = open_edit(engine)
    for _ in session.frames([0.1, 0.5, 1.0]):
        break
    assert Call(open_edit(engine, seed=1).render, 0.5).result()


def test_two_sweeps_at_once_are_both_complete(pipe, engine):
    """Two strips being filled starve or spoil each other."""
    sessions = [open_edit(engine), open_edit(engine, seed=1)]
    sweeps = [Call(lambda session=session: list(session.sweep(3))) for session in sessions]
    results = [sweep.result() for sweep in sweeps]
    for session, frames in zip(sessions, results, strict=True):
        assert all(alike(frame, reference(pipe, session, strength)) for strength, frame in frames)


def test_closing_ends_what_runs_and_what_waits(engine):
    """A closed tab keeps the device busy, or its threads hang for ever."""
    session, gate = open_edit(engine), Gate()
    running = Call(lambda: list(session.sweep(3, gate)))
    gate.wait()
    waiting = Call(session.render, 0.7)
    waits(engine, 1)
    session.close()
    with pytest.raises(SessionClosed):
        waiting.result()
    gate.opened.set()
    with pytest.raises(SessionClosed):
        running.result()
    assert open_edit(engine).render(0.7)


def test_opening_goes_before_a_sweep_and_encodes_once(pipe, engine, monkeypatch):
    """A second person waits for the first one's whole strip before anything happens; or twins encode twice."""
    session, gate = open_edit(engine), Gate()
    sweep = Call(lambda: list(session.sweep(3, gate)))
    gate.wait()
    with counted(pipe, monkeypatch) as calls:
        opened = [Call(engine.open, tiny_image(24, 24, seed=3), "make it night") for _ in range(2)]
        waits(engine, 2)
        gate.opened.set()
        assert [call.result().instruction for call in opened] == ["make it night"] * 2
        assert calls["text_encoder"] == calls["vae.encode"] == 1
    assert all(alike(frame, reference(pipe, session, strength)) for strength, frame in sweep.result())


def test_many_threads_get_their_own_right_frames(pipe, engine):
    """Under load one session's picture appears in another."""
    sessions = [open_edit(engine, seed=seed, steps=2) for seed in range(3)]
    expected = {(s.seed, k): reference(pipe, s, k / 4) for s in sessions for k in range(5)}

    def drag(session, seed):
        rng, wrong, done = random.Random(seed), 0, 0
        for _ in range(12):
            k = rng.randrange(5)
            try:
                wrong += not alike(session.render(k / 4), expected[session.seed, k])
                done += 1
            except Superseded:
                continue
        return wrong, done

    results = [Call(drag, sessions[index % 3], index) for index in range(6)]
    results = [call.result() for call in results]
    assert sum(wrong for wrong, _ in results) == 0 and all(done for _, done in results)
