"""The handlers over the fake engine: what a person is shown, in which order, and what is kept when things go wrong."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.edit import check_steps
from kontext_slider.engine import SliderEngine, ends_first
from kontext_slider.errors import InvalidInput
from kontext_slider.ui.handlers import Handlers, notice, position, whole
from kontext_slider.ui.tab import Tab
from tests.ui import fake_engine
from tests.ui.fake_engine import FakeEngine, faded

TIMEOUT = 20


@pytest.fixture
def photograph(tmp_path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def handlers(tmp_path) -> Handlers:
    return Handlers(FakeEngine(), str(tmp_path / "cache"))


def edit(handlers, tab, photograph, instruction="make it night", num_frames=5, seed=3, steps=2, guidance=2.5):
    return list(handlers.edit(tab, photograph, instruction, num_frames, seed, steps, guidance))


def commit(handlers, tab, strength, serial=None):
    data = {"edit": tab.edit.serial if serial is None else serial, "strength": strength}
    return list(handlers.commit(tab, gr.EventData(None, data)))


def strengths(strip) -> list[float]:
    return [frame.strength for frame in strip.frames]


def test_the_strip_fills_ends_first_and_every_frame_shows_on_arrival(handlers, photograph):
    """Frames that came all at once, or in rising order, would leave the person without the full edit for long."""
    tab = Tab()
    strips = [strip for _, strip, *_ in edit(handlers, tab, photograph)]
    arrived: list[float] = []
    for strip in strips:
        arrived += [strength for strength in strengths(strip) if strength not in arrived]
    assert arrived == ends_first(5) == [0, 1, 0.5, 0.25, 0.75]
    assert strips[-1].strengths == [0, 0.25, 0.5, 0.75, 1]
    assert strips[-1].busy is None
    assert any(strip.busy and "step" in strip.busy.text for strip in strips)
    assert handlers.engine.opened == [{"instruction": "make it night", "seed": 3, "steps": 2, "guidance": 2.5}]


def test_frames_are_lossless_and_zero_is_the_source(handlers, photograph):
    """A lossy file at strength 0 would already differ from the person's picture."""
    tab = Tab()
    last = edit(handlers, tab, photograph)[-1][1]
    source = tab.edit.session.source
    for frame in last.frames:
        with Image.open(frame.file.path) as image:
            assert image.convert("RGB").tobytes() == faded(source, frame.strength).tobytes()


def test_the_slider_at_rest_renders_exactly_there(handlers, photograph):
    """A rounded or stale strength would show another frame than the label says."""
    tab = Tab()
    edit(handlers, tab, photograph)
    handlers.engine.rendered.clear()
    strip, _ = commit(handlers, tab, 0.37)[-1]
    assert handlers.engine.rendered == [0.37]
    assert 0.37 in strengths(strip)
    commit(handlers, tab, 0.37)
    assert handlers.engine.rendered == [0.37]  # a finished frame costs nothing


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "0.5", None, True, [0.5]])
def test_a_silly_strength_from_the_browser_is_refused_with_a_sentence(handlers, photograph, strength):
    """The browser is not ours: whatever it sends must neither render nor raise."""
    tab = Tab()
    edit(handlers, tab, photograph)
    handlers.engine.rendered.clear()
    [(_, sentence)] = commit(handlers, tab, strength)
    assert "A strength is a number from 0" in sentence
    assert handlers.engine.rendered == []


def test_the_slider_of_a_replaced_edit_renders_nothing(handlers, photograph):
    """A late event of the first edit must not put its frame into the second."""
    tab = Tab()
    edit(handlers, tab, photograph)
    old = tab.edit.serial
    edit(handlers, tab, photograph, "add thick fog")
    handlers.engine.rendered.clear()
    commit(handlers, tab, 0.37, serial=old)
    assert handlers.engine.rendered == []
    assert tab.edit.serial > old


def test_a_newer_position_of_the_hand_cancels_the_older_quietly(photograph, tmp_path):
    """Without it every position passed on the way would be rendered to the end, and its error shown."""
    handlers, tab = Handlers(FakeEngine(step_seconds=0.05), str(tmp_path)), Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=1)
    tab.edit.session.steps = 8
    older = handlers.commit(tab, gr.EventData(None, {"edit": tab.edit.serial, "strength": 0.2}))
    next(older)  # its first step is done
    newer: list = []
    thread = threading.Thread(target=lambda: newer.extend(commit(handlers, tab, 0.8)))
    thread.start()
    assert all(sentence == gr.skip() for _, sentence in older)
    thread.join(TIMEOUT)
    assert 0.8 in strengths(newer[-1][0])
    assert 0.2 not in strengths(newer[-1][0])


def test_the_hand_goes_before_the_strip_which_then_goes_on(photograph, tmp_path):
    """The person rests on 0.37 while the strip fills, and sees it after ten other frames."""
    engine = FakeEngine(step_seconds=0.01)
    handlers, tab = Handlers(engine, str(tmp_path)), Tab()
    filling = handlers.edit(tab, photograph, "make it night", 9, 0, 4, 2.5)
    next(message for message in filling if len(message[1].frames) == 2)
    hand = handlers.commit(tab, gr.EventData(None, {"edit": tab.edit.serial, "strength": 0.37}))
    next(hand)  # its first step is done
    rest = threading.Thread(target=lambda: list(hand))
    rest.start()
    last = list(filling)[-1][1]
    rest.join(TIMEOUT)
    assert engine.rendered.index(0.37) <= 2  # at most the frame under way comes before
    assert strengths(last) == sorted([k / 8 for k in range(9)] + [0.37])


def test_a_hand_whose_frame_fails_does_not_hold_up_the_strip(photograph, tmp_path):
    """The strip waits for a frame that never comes."""
    handlers, tab = Handlers(FakeEngine(step_seconds=0.01, fails_at=0.37), str(tmp_path)), Tab()
    filling = handlers.edit(tab, photograph, "make it night", 5, 0, 4, 2.5)
    next(message for message in filling if len(message[1].frames) == 2)
    said: list = []
    hand = threading.Thread(target=lambda: said.extend(commit(handlers, tab, 0.37)))
    hand.start()
    assert strengths(list(filling)[-1][1]) == [k / 4 for k in range(5)]
    hand.join(TIMEOUT)
    assert "cannot render" in said[-1][1]


def test_the_strip_refines_where_frames_differ_most(photograph, tmp_path, monkeypatch):
    """An edit that happens between 0.5 and 0.75 gets as many frames where nothing changes."""
    monkeypatch.setattr(
        fake_engine, "faded", lambda source, strength: faded(source, min(max(strength - 0.5, 0.0), 0.25))
    )
    handlers = Handlers(FakeEngine(), str(tmp_path))
    edit(handlers, Tab(), photograph, num_frames=17)
    assert handlers.engine.rendered[:4] == ends_first(17)[1:5]
    assert sorted(handlers.engine.rendered[4:7]) == [0.5625, 0.625, 0.6875]
    assert sorted(handlers.engine.rendered) == [k / 16 for k in range(1, 17)]


def test_a_preview_comes_before_the_exact_frame_and_is_marked(photograph, tmp_path):
    """Seconds of nothing on a large model; or a rough picture that passes for the exact one."""
    engine = FakeEngine(step_seconds=0.1)
    handlers, tab = Handlers(engine, str(tmp_path)), Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=1)
    opened = handlers.edit(tab, photograph, "make it night", 2, 0, 8, 2.5)
    next(message for message in opened if len(message[1].frames) == 1)
    messages = commit(handlers, tab, 0.37)
    marked = [[frame.preview for frame in strip.frames if frame.strength == 0.37] for strip, _ in messages]
    assert [True] in marked and [True, False] not in marked and marked[-1] == [False]
    assert any(strip.busy and strip.busy.text.endswith("of 12") for strip, _ in messages)  # four steps and eight
    assert engine.previewed == [0.37]
    assert not tab.edit.previews() and 0.37 in strengths(messages[-1][0])


@pytest.mark.parametrize(("steps", "previewed"), [(7, []), (8, [0.37])])
def test_there_is_no_preview_where_it_does_not_pay(handlers, photograph, steps, previewed):
    """On a model of two steps every move costs half as much again, for a picture that is gone at once."""
    tab = Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=steps)
    for strength in (0.37, 0.0, 1.0):
        commit(handlers, tab, strength)
    tab.edit.session._frames[0.44] = tab.edit.session.source  # in the engine's cache, not yet in the tab
    commit(handlers, tab, 0.44)
    assert handlers.engine.previewed == previewed


def test_coming_back_to_a_finished_frame_drops_the_stale_render(photograph, tmp_path):
    """The hand is back where a frame is finished, and the device goes on with one that nobody waits for."""
    handlers, tab = Handlers(FakeEngine(step_seconds=0.05), str(tmp_path)), Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=6)
    stale = handlers.commit(tab, gr.EventData(None, {"edit": tab.edit.serial, "strength": 0.2}))
    next(stale)  # its first step is done
    commit(handlers, tab, 1.0)
    list(stale)
    assert 0.2 not in handlers.engine.rendered and not tab.edit.has(0.2)


def test_a_newer_edit_silences_the_older_and_frees_its_files(photograph, tmp_path):
    """Frames of the first instruction must not trickle into the strip of the second, nor stay on disk."""
    handlers, tab = Handlers(FakeEngine(step_seconds=0.01), str(tmp_path)), Tab()
    older = handlers.edit(tab, photograph, "make it night", 5, 0, 4, 2.5)
    next(message for message in older if message[1].frames)
    folder = tab.edit.folder
    newer = edit(handlers, tab, photograph, "add thick fog")
    assert list(older) == []
    assert not folder.exists()
    assert newer[-1][1].instruction == "add thick fog"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"photograph": None}, "photograph"),
        ({"instruction": "  "}, "instruction"),
        ({"instruction": "x" * 501}, "500"),
        ({"seed": None}, "seed"),
        ({"seed": -1}, "seed"),
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"num_frames": 1}, "frames"),
        ({"num_frames": 10**9}, "frames"),
    ],
)
def test_a_mistake_is_a_sentence_and_nothing_rendered_is_lost(handlers, photograph, changes, said):
    """An error that closed the open edit would throw away minutes of rendering."""
    tab = Tab()
    edit(handlers, tab, photograph)
    before = tab.edit
    arguments = {"photograph": photograph, **changes}
    _, strip, sentence, *_ = edit(handlers, tab, **arguments)[-1]
    assert said in sentence.lower() and 'role="alert"' in sentence
    assert tab.edit is before
    assert len(strip.frames) == 5 and strip.busy is None


def test_a_file_that_is_no_picture_is_a_sentence(handlers, tmp_path):
    """An upload is anything: a text named .png must not end in a traceback."""
    path = tmp_path / "letter.png"
    path.write_text("Dear Sir or Madam")
    tab = Tab()
    _, _, sentence, *_ = edit(handlers, tab, str(path))[-1]
    assert 'role="alert"' in sentence and tab.edit is None
    assert "letter.png" in sentence and str(tmp_path) not in sentence, "the server's folders are nobody's business"


def test_an_error_in_the_middle_keeps_what_is_done(photograph, tmp_path):
    """One strength that fails must not take the finished ones with it."""
    handlers, tab = Handlers(FakeEngine(fails_at=0.5), str(tmp_path)), Tab()
    _, strip, sentence, *_ = edit(handlers, tab, photograph)[-1]
    assert "cannot render" in sentence
    assert strengths(strip) == [0, 1] and strip.busy is None


def test_an_unknown_instruction_is_answered_honestly(handlers, photograph):
    """A small model renders something for any words; the person must hear that it was not trained for these."""
    messages = edit(handlers, Tab(), photograph, "add a <b>dragon</b>")
    sentence, nearest = next((m[2], m[3]) for m in messages if m[3])
    assert "not trained" in sentence and "&lt;b&gt;" in sentence and "<b>" not in sentence
    assert 1 <= len(nearest) <= 3
    known = edit(handlers, Tab(), photograph, "make it night")
    assert not any("not trained" in str(message[2]) for message in known)


def test_the_strip_says_whose_frames_it_shows(handlers, photograph):
    """Another picture or instruction may stand beside it already, and a save would write the one nobody named."""
    last = edit(handlers, Tab(), photograph)[-1][1]
    assert last.caption == "make it night · photo.png · seed 3"


def test_frames_go_when_the_process_ends(tmp_path, monkeypatch):
    """A folder for every edit that was open at Ctrl-C stayed in /tmp."""
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call, **options: at_exit.append((call, options)))
    handlers = Handlers(FakeEngine(), str(tmp_path / "cache"))
    assert Path(handlers.folder).is_dir()
    [((remove, *arguments), options)] = at_exit
    remove(*arguments, **options)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_commit_of_an_edit_that_is_closed_asks_the_browser_for_it(handlers):
    """After an hour away the session is gone; a slider that then does nothing would look broken."""
    event = gr.EventData(None, {"edit": 1, "strength": 0.5})
    [(strip, _)] = list(handlers.commit(Tab(), event))
    assert strip.is_lost and "press Edit" in strip.said


def test_values_of_a_browser_are_checked():
    """JSON has no integers: 3.0 is three, 3.5 is none, True is none."""
    assert check_steps(whole(3.0)) == 3
    for value in (3.5, True, None, "3", -1, 1e300, float("nan")):
        with pytest.raises(InvalidInput):
            check_steps(whole(value))
    assert position({"edit": 1, "strength": 0.123456}) == (1, 0.1235)
    with pytest.raises(InvalidInput):
        position("no dict")


def test_the_real_engine_fits(pipe, photograph, tmp_path):
    """The fake engine could drift from the real one: frames must be those that a session of one's own shows."""
    engine = SliderEngine(pipe)
    tab = Tab()
    last = edit(Handlers(engine, str(tmp_path)), tab, photograph, "make it snow", num_frames=3, seed=5)[-1][1]
    strip, _ = commit(Handlers(engine, str(tmp_path)), tab, 0.3)[-1]
    assert strengths(last) == [0, 0.5, 1] and strengths(strip) == [0, 0.3, 0.5, 1]
    with SliderEngine(pipe).open(photograph, "make it snow", seed=5, steps=2, guidance=2.5) as session:
        for strength in strengths(strip):
            assert tab.edit.picture(strength).tobytes() == session.show(strength).tobytes()


def test_picks_become_text_and_nothing_else(handlers):
    """A forged pick must not put an object into the instruction box."""
    assert handlers.pick(gr.EventData(None, {"text": "make it night"})) == "make it night"
    assert handlers.pick(gr.EventData(None, {"text": {"a": 1}})) == gr.skip()
    assert handlers.pick(gr.EventData(None, SimpleNamespace())) == gr.skip()


def test_sentences_are_safe():
    """An instruction is also a piece of a page."""
    assert "<script>" not in notice("<script>")
    assert notice("") == ""
