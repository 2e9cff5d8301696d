"""The handlers over the fake engine: what a visitor is shown, in which order, and what is kept when things go wrong."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

from kontext_slider.engine import ends_first
from kontext_slider.images import read_image
from kontext_slider.ui.edits import MOST_JOBS_OF_ONE
from kontext_slider.ui.handlers import AGAIN, BACK, Handlers
from kontext_slider.ui.restore import Restoring
from kontext_slider.ui.saving import Saving
from kontext_slider.ui.sources import Sources
from tests.ui import fake_engine
from tests.ui.fake_engine import FakeEngine, faded
from tests.ui.visitor import Visitor, strengths

TIMEOUT = 20
NAMES = ("instruction", "num_frames", "seed", "steps", "guidance")
SETTINGS = ("make it night", 5, 3, 2, 2.5)


def test_the_strip_fills_ends_first_and_every_frame_shows_on_arrival(visitor, engine, photograph):
    """Frames that came all at once, or in rising order, would leave the visitor without the full edit for long."""
    messages = visitor.edit(photograph)
    arrived: list[float] = []
    for message in messages:
        arrived += [strength for strength in strengths(message) if strength not in arrived]
    assert arrived == ends_first(5) == [0, 1, 0.5, 0.25, 0.75]
    last = messages[-1].canvas
    assert last.strengths == [0, 0.25, 0.5, 0.75, 1] and last.busy is None
    assert last.caption == "make it night · photo.png · seed 3", "another picture may stand beside it already"
    assert any(message.canvas.busy and "step" in message.canvas.busy.text for message in messages)
    assert engine.opened == [{"instruction": "make it night", "seed": 3, "steps": 2, "guidance": 2.5}]


def test_frames_are_lossless_and_zero_is_the_source(visitor, photograph):
    """A lossy file at strength 0 would already differ from the visitor's picture."""
    last = visitor.edit(photograph)[-1].canvas
    for frame in last.frames:
        with Image.open(frame.file.path) as image:
            assert image.convert("RGB").tobytes() == faded(visitor.opened.session.source, frame.strength).tobytes()


def test_the_slider_at_rest_renders_exactly_there(visitor, engine, photograph):
    """A rounded or stale strength would show another frame than the label says."""
    visitor.edit(photograph)
    engine.rendered.clear()
    last = visitor.commit(0.37)[-1]
    assert engine.rendered == [0.37]
    assert 0.37 in strengths(last)
    visitor.commit(0.37)
    assert engine.rendered == [0.37]  # a finished frame costs nothing


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "0.5", None, True, [0.5]])
def test_a_silly_strength_from_the_browser_is_refused_with_a_sentence(visitor, engine, photograph, strength):
    """A browser may send anything: it must neither render nor raise."""
    visitor.edit(photograph)
    engine.rendered.clear()
    [message] = visitor.commit(strength)
    assert "A strength is a number from 0" in message.notice
    assert engine.rendered == []


def test_the_slider_of_a_replaced_edit_renders_nothing(visitor, engine, photograph):
    """A late event of the first edit must not put its frame into the second."""
    visitor.edit(photograph)
    old = visitor.opened.serial
    visitor.edit(photograph, "add thick fog")
    engine.rendered.clear()
    [message] = visitor.commit(0.37, serial=old)
    assert engine.rendered == [] and message.canvas == gr.skip()


def test_visitors_do_not_see_each_others_edits(visitor, handlers, photograph):
    """A shared state would show one visitor's picture to another."""
    visitor.edit(photograph)
    other = Visitor(handlers, "another page")
    [message] = other.commit(0.5, serial=visitor.opened.serial)
    assert message.canvas.is_lost and message.canvas.frames == [] and other.opened is None


@pytest.mark.parametrize("newer", [0.8, 1.0])
def test_a_newer_position_of_the_slider_ends_the_older_render_quietly(photograph, tmp_path, newer):
    """Without it every position passed on the way would be rendered to the end, and its error shown; also where the
    newer position, 1, has a finished frame."""
    engine = FakeEngine(step_seconds=0.02)
    visitor = Visitor(Handlers(engine, str(tmp_path)))
    visitor.edit(photograph, num_frames=2, steps=7)
    older = visitor.begin_commit(0.2)
    next(older)  # its first step is done
    messages: list = []
    thread = threading.Thread(target=lambda: messages.extend(visitor.commit(newer)))
    thread.start()
    assert all(message.notice == gr.skip() for message in older)
    thread.join(TIMEOUT)
    assert newer in strengths(messages[-1]) and 0.2 not in strengths(messages[-1])
    assert 0.2 not in engine.rendered


def test_the_slider_goes_before_the_strip_which_then_goes_on(photograph, tmp_path):
    """The visitor rests on 0.37 while the strip fills, and sees it after ten other frames."""
    engine = FakeEngine(step_seconds=0.01)
    visitor = Visitor(Handlers(engine, str(tmp_path)))
    filling = visitor.begin_edit(photograph, num_frames=9, steps=4)
    next(message for message in filling if len(message.canvas.frames) == 2)
    slider = visitor.begin_commit(0.37)
    next(slider)  # its first step is done
    rest = threading.Thread(target=lambda: list(slider))
    rest.start()
    last = list(filling)[-1]
    rest.join(TIMEOUT)
    assert engine.rendered.index(0.37) <= 2  # at most the frame under way comes before
    assert strengths(last) == sorted([0.0, 0.25, 0.37, 0.5, 0.75, 1.0])


def test_a_frame_of_the_slider_that_fails_does_not_hold_up_the_strip(photograph, tmp_path):
    """The strip waits for a frame that never comes."""
    visitor = Visitor(Handlers(FakeEngine(step_seconds=0.01, fails_at=0.37), str(tmp_path)))
    filling = visitor.begin_edit(photograph, num_frames=5, steps=4)
    next(message for message in filling if len(message.canvas.frames) == 2)
    messages: list = []
    slider = threading.Thread(target=lambda: messages.extend(visitor.commit(0.37)))
    slider.start()
    assert strengths(list(filling)[-1]) == [k / 4 for k in range(5)]
    slider.join(TIMEOUT)
    assert "cannot render" in messages[-1].notice


def test_the_strip_refines_where_an_interpolation_would_be_seen(visitor, engine, photograph, monkeypatch):
    """An edit that happens between 0.5 and 0.75 gets as many frames where nothing changes; or sixteen for a fade."""
    visitor.edit(photograph, num_frames=17)
    assert engine.rendered == ends_first(17)[1:5]
    engine.rendered.clear()
    monkeypatch.setattr(
        fake_engine, "faded", lambda source, strength: faded(source, min(max(strength - 0.5, 0.0), 0.25))
    )
    visitor.edit(photograph, num_frames=17)
    assert engine.rendered[:4] == ends_first(17)[1:5]
    assert 4 < len(engine.rendered) < 16 and all(0.3 < strength < 0.9 for strength in engine.rendered[4:])


def test_a_browser_that_cannot_draw_gets_the_whole_strip(visitor, engine, photograph):
    """Without WebGL2 the picture would stand still between five frames."""
    visitor.edit(photograph, num_frames=9)
    assert len(engine.rendered) == 4
    assert strengths(visitor.complete()[-1]) == [k / 8 for k in range(9)]
    assert visitor.complete(serial=5)[-1].canvas == gr.skip(), "an edit that has been replaced is left alone"


def test_a_browser_that_draws_gets_all_that_it_needs(visitor, engine, photograph):
    """Without an address or an estimate, nothing is interpolated, or everything is."""
    canvas = visitor.edit(photograph)[-1].canvas
    assert canvas.size == [320, 240] and read_image(canvas.photograph.path).size == (320, 240)
    assert [frame.strength for frame in canvas.frames if frame.transfer is None] == [0.0]
    packed = load(Path(canvas.frames[-1].transfer.path).read_bytes())
    assert packed["affine"].shape[0] == 3 and packed["affine"].shape[3] == 4
    assert [(gap.low, gap.high) for gap in canvas.gaps] == list(pairwise([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert all(gap.error < canvas.seen for gap in canvas.gaps)


def test_a_large_photograph_is_sent_once_at_the_size_of_a_screen(visitor, tmp_path):
    """Twelve megapixels are six megabytes, which no screen shows; or each message writes the file again."""
    path = tmp_path / "large.png"
    Image.new("RGB", (3000, 1500), "teal").save(path)
    messages = visitor.edit(path)
    screens = {message.canvas.photograph.path for message in messages if message.canvas.photograph}
    assert len(screens) == 1 and read_image(screens.pop()).size == (2048, 1024)
    assert messages[-1].canvas.size == [3000, 1500]


def test_a_tile_is_a_part_of_the_photograph_at_its_own_size(visitor, tmp_path):
    """At 100 % the sharpness of the saved picture cannot be judged by an enlarged one."""
    grain = np.random.default_rng(0).integers(0, 256, (1200, 2400, 1), dtype=np.uint8).repeat(3, axis=2)
    path = tmp_path / "large.png"
    Image.fromarray(grain).save(path)
    visitor.edit(path)
    tile = visitor.tile([600, 300, 1800, 900])[-1].canvas.tile
    assert (tile.x, tile.y, tile.width, tile.height) == (0.25, 0.25, 0.5, 0.5)
    pixels = np.asarray(read_image(tile.file.path)).astype(int)
    assert np.abs(pixels - grain[300:900, 600:1800]).mean() < 4
    assert visitor.commit(0.4)[-1].canvas.tile == tile, "a page that missed the message stays blurred"


@pytest.mark.parametrize(
    "box", [None, [0, 0, 9], [0, 0, 0, 9], [5, 0, 4, 9], [-1, 0, 9, 9], [0, 0, 321, 9], [0, 0, 9.5, 9], ["0", 0, 9, 9]]
)
def test_a_tile_elsewhere_is_refused(visitor, photograph, box):
    """A box from a browser can be anything, and Pillow crops outside of a picture without a word."""
    visitor.edit(photograph)
    assert "part of the photograph" in visitor.tile(box)[-1].notice


def test_a_preview_comes_before_the_exact_frame_and_is_marked(photograph, tmp_path):
    """Seconds of nothing on a large model; or a rough picture that passes for the exact one."""
    engine = FakeEngine(step_seconds=0.05)
    visitor = Visitor(Handlers(engine, str(tmp_path)))
    opened = visitor.begin_edit(photograph, num_frames=2, steps=8)
    next(message for message in opened if len(message.canvas.frames) == 1)
    messages = visitor.commit(0.37)
    marked = [[frame.preview for frame in each.canvas.frames if frame.strength == 0.37] for each in messages]
    assert [True] in marked and [True, False] not in marked and marked[-1] == [False]
    busy = [message.canvas.busy.text for message in messages if message.canvas.busy]
    assert any(text.endswith("of 12") for text in busy)  # four steps and eight
    assert engine.previewed == [0.37] and not visitor.opened.previews()


@pytest.mark.parametrize(("steps", "previewed"), [(7, []), (8, [0.37])])
def test_there_is_no_preview_where_it_does_not_pay(visitor, engine, photograph, steps, previewed):
    """On a model of two steps every move costs half as much again, for a picture that is gone at once."""
    visitor.edit(photograph, num_frames=2, steps=steps)
    for strength in (0.37, 0.0, 1.0):
        visitor.commit(strength)
    visitor.opened.session.render(0.44)  # in the engine's cache, not yet in the strip
    visitor.commit(0.44)
    assert engine.previewed == previewed


def test_a_newer_edit_silences_the_older_and_frees_its_files(photograph, tmp_path):
    """Frames of the first instruction must not trickle into the strip of the second, nor stay on disk; and its file is
    gone, so a download that stays on offer would answer a press with nothing."""
    visitor = Visitor(Handlers(FakeEngine(step_seconds=0.01), str(tmp_path)))
    older = visitor.begin_edit(photograph, steps=4)
    next(message for message in older if message.canvas.frames)
    folder = visitor.opened.folder.path
    newer = visitor.edit(photograph, "add thick fog")
    assert list(older) == []
    assert not folder.exists()
    assert newer[-1].canvas.inputs.instruction == "add thick fog"
    assert newer[1].canvas.busy.text == "Starting" and newer[1].download == gr.update(value=None, visible=False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
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
def test_a_mistake_is_a_sentence_and_nothing_rendered_is_lost(visitor, photograph, changes, sentence):
    """An error that closed the open edit would throw away minutes of rendering."""
    visitor.edit(photograph)
    before = visitor.opened
    messages = visitor.edit(**{"photograph": photograph, **changes})
    last = messages[-1]
    assert sentence in last.notice.lower() and 'role="alert"' in last.notice
    assert visitor.opened is before
    assert len(last.canvas.frames) == 5 and last.canvas.busy is None
    assert all(message.download == gr.skip() for message in messages), "the download of an open edit stays"


def test_whole_numbers_of_a_browser_are_taken(visitor, engine, photograph):
    """JSON has no integers: 3 may come as 3.0."""
    visitor.edit(photograph, num_frames=3.0, seed=7.0, steps=2.0)
    assert engine.opened[0]["seed"] == 7 and len(visitor.opened.frames()) == 3


def test_a_file_that_is_no_picture_is_a_sentence(visitor, tmp_path):
    """An upload is anything: a text named .png must not end in a traceback."""
    path = tmp_path / "letter.png"
    path.write_text("Dear Sir or Madam")
    notice = visitor.edit(path)[-1].notice
    assert 'role="alert"' in notice and visitor.opened is None
    assert "letter.png" in notice and str(tmp_path) not in notice, "the server's folders are private"


def test_an_error_in_the_middle_keeps_what_is_done(photograph, tmp_path):
    """One strength that fails must not take the finished ones with it."""
    visitor = Visitor(Handlers(FakeEngine(fails_at=0.5), str(tmp_path)))
    last = visitor.edit(photograph)[-1]
    assert "cannot render" in last.notice
    assert strengths(last) == [0, 1] and last.canvas.busy is None


def test_an_unknown_instruction_is_answered_honestly(visitor, photograph):
    """A small model renders something for any words; the visitor must read that it was not trained for these."""
    messages = visitor.edit(photograph, "add a <b>dragon</b>")
    notice, nearest = next((message.notice, message.nearest) for message in messages if message.nearest)
    assert "not trained" in notice and "&lt;b&gt;" in notice and "<b>" not in notice
    assert 1 <= len(nearest) <= 3
    known = visitor.edit(photograph, "make it night")
    assert not any("not trained" in str(message.notice) for message in known)


def test_frames_go_when_the_process_ends(tmp_path, monkeypatch):
    """A folder for every edit that was open at Ctrl-C stayed in /tmp."""
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call, **options: at_exit.append((call, options)))
    handlers = Handlers(FakeEngine(), str(tmp_path / "cache"))
    assert Path(handlers.folder).is_dir()
    [((remove, *arguments), options)] = at_exit
    remove(*arguments, **options)
    assert list((tmp_path / "cache").iterdir()) == []


def test_picks_become_text_and_nothing_else(handlers):
    """A forged pick must not put an object into the instruction box."""
    assert handlers.inputs.pick(gr.EventData(None, {"text": "make it night"})) == "make it night"
    assert handlers.inputs.pick(gr.EventData(None, {"text": {"a": 1}})) == gr.skip()
    assert handlers.inputs.pick(gr.EventData(None, SimpleNamespace())) == gr.skip()
    for data in ({"index": 0}, {"index": "0"}, {}, None):
        assert handlers.inputs.pick_example(gr.EventData(None, data)) == (
            gr.skip(),
            gr.skip(),
        )  # there are no examples here


# ---- a page that is loaded again, and a server that is restarted


@pytest.fixture
def upload(photograph, tmp_path, monkeypatch) -> str:
    """A photograph where gradio keeps uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "hash" / "photo.png"
    path.parent.mkdir(parents=True)
    return str(photograph.rename(path))


def kept(key: object, photograph: object, **changes: object) -> dict[str, object]:
    """What a browser has kept of an edit."""
    return {"key": key, "photograph": photograph, **dict(zip(NAMES, SETTINGS, strict=True)), **changes}


def sentences(messages: list) -> set[str]:
    return {message.canvas.said for message in messages if message.canvas != gr.skip()}


def test_a_page_that_is_loaded_again_gets_the_open_edit(visitor, handlers, engine, upload):
    """gradio gives a page that is loaded again an empty state: frames that were there were out of reach. Of
    messages that come together the page gets the newest, so every one says why."""
    visitor.edit(Path(upload), *SETTINGS)
    made, edit = list(engine.rendered), visitor.opened
    after = Visitor(handlers, "loaded again")
    messages = after.reopen(kept(edit.key, upload))
    assert after.opened is edit and sentences(messages) == {BACK}
    assert len(messages[-1].canvas.frames) == 5 and engine.rendered == made


def test_an_edit_that_is_gone_is_opened_with_the_same_inputs(visitor, engine, upload):
    """A server that was restarted knows no key."""
    messages = visitor.reopen(kept("unknown", upload))
    assert sentences(messages[1:]) == {AGAIN} and len(messages[-1].canvas.frames) == 5
    assert engine.opened == [{"instruction": "make it night", "seed": 3, "steps": 2, "guidance": 2.5}]
    last = messages[-1].canvas
    assert last.inputs.photograph == upload and last.key == visitor.opened.key


def test_a_slider_of_a_closed_edit_makes_the_browser_reopen_it(visitor):
    """After an hour away the session is gone; a slider that then does nothing would look broken."""
    [message] = visitor.commit(0.5, serial=1)
    assert message.canvas.is_lost and "press Edit" in message.canvas.said


@pytest.mark.parametrize(
    "data",
    [
        None,
        "a text",
        {},
        kept(1, "x"),
        kept("x" * 101, "x"),
        kept("x", None),
        kept("x", "x", guidance="2"),
        kept("x", "x", guidance=True),
        kept("x", "x", seed="1"),
        kept("x", "x", instruction=5),
    ],
)
def test_what_names_no_edit_is_refused_with_a_sentence(visitor, engine, data):
    """A browser may send anything: it must neither render nor raise."""
    [message] = visitor.reopen(data)
    assert "press Edit" in message.notice and engine.opened == []


@pytest.mark.parametrize("changes", [{"steps": -1}, {"num_frames": 10**9}, {"instruction": "x" * 501}])
def test_settings_that_come_back_are_checked_as_those_of_an_edit(visitor, engine, upload, changes):
    """A second door to the engine must not be the one without a lock."""
    assert 'role="alert"' in visitor.reopen(kept("unknown", upload, **changes))[-1].notice
    assert engine.opened == []


def test_only_uploads_are_read(visitor, engine, upload, tmp_path):
    """A path from a browser could name any file of the server."""
    outside = tmp_path / "private.png"
    Image.new("RGB", (60, 40)).save(outside)
    link = os.path.join(os.path.dirname(upload), "link.png")
    os.symlink(outside, link)
    climbing = os.path.join(os.path.dirname(upload), "..", "..", "private.png")
    for path in (str(outside), link, climbing, "", os.path.dirname(upload), upload + ".gone"):
        [message] = visitor.reopen(kept("unknown", path))
        assert "add it again" in message.notice
    assert engine.opened == []


def test_the_page_says_with_how_many_it_shares_the_model_or_why_it_must_wait(visitor, photograph):
    """A visitor for whom nothing happened for 45 seconds, and who was told nothing."""
    edits = visitor.handlers.edits
    with edits.job("198.51.100.1"), edits.job("198.51.100.2"):
        said = [message.canvas.busy.text for message in visitor.edit(photograph) if getattr(message.canvas, "busy", 0)]
    assert any("by turns with 2 other edits" in text for text in said)
    visitor.request.client = SimpleNamespace(host="203.0.113.9")
    with ExitStack() as jobs:
        for _ in range(MOST_JOBS_OF_ONE):
            jobs.enter_context(edits.job("203.0.113.9"))
        refused = visitor.edit(photograph)[-1]
    assert "edits of yours" in refused.notice and refused.canvas.busy is None
    assert visitor.edit(photograph)[-1].canvas.frames


def test_the_slider_goes_beyond_full_only_where_that_is_switched_on(visitor, engine, photograph):
    """Who asked the server by hand got frames that the page had not switched on; or those stayed when it was off."""
    visitor.edit(photograph)
    assert "A strength is a number from 0" in visitor.commit(1.25)[-1].notice and max(engine.rendered) == 1
    canvas = visitor.beyond(True)[-1].canvas
    assert canvas.highest == 1.5 and canvas.strengths[-5:] == [1.1, 1.2, 1.3, 1.4, 1.5]
    assert canvas.curve.strengths[-1] == 1.5 and {frame.strength for frame in canvas.frames} >= set(canvas.strengths)
    assert 1.25 in strengths(visitor.commit(1.25)[-1])
    assert "up to 1.5" in visitor.commit(1.6)[-1].notice
    canvas = visitor.beyond(False)[-1].canvas
    assert canvas.highest == canvas.curve.strengths[-1] == max(canvas.strengths) == 1
    assert max(frame.strength for frame in canvas.frames) == 1
    assert "A strength is a number from 0" in visitor.commit(1.25)[-1].notice


def test_the_curve_is_measured_as_frames_arrive(visitor, photograph):
    """A curve without an end would be read as an edit that stops there."""
    canvases = [message.canvas for message in visitor.edit(photograph, num_frames=5)]
    curves = [canvas.curve for canvas in canvases if canvas.curve]
    assert canvases[0].curve is None and all(curve.strengths[:: len(curve.strengths) - 1] == [0, 1] for curve in curves)
    last = canvases[-1]
    assert last.curve.strengths == [0, 0.25, 0.5, 0.75, 1]
    assert last.curve.distances == pytest.approx(last.curve.changes, rel=0.02), "a fade is a straight line"
    assert last.curve.dead == last.curve.jumps == [] and last.curve.stops is last.curve.breaks is None


def test_no_handler_answers_to_a_page_that_does_not_show_the_edit(engine, photograph, tmp_path):
    """The number of an edit is a time, which can be guessed: whoever sends another page's must get nothing of it."""
    handlers = Handlers(engine, str(tmp_path))
    owner, other = Visitor(handlers), Visitor(handlers, "other page")
    owner.edit(photograph)
    edit, rendered = owner.opened, list(engine.rendered)
    place = {**owner.place(0.4), "box": [0, 0, 8, 8], "on": True, "path": str(photograph)}
    event: Any = gr.EventData(None, {**place, "layers": [{"instruction": "make it night"}]})
    saving, restoring = Saving(handlers), Restoring(handlers, {})
    page_handlers = [handlers.commit, handlers.draw, handlers.complete, handlers.beyond, handlers.tile, handlers.chain]
    page_handlers += [Sources(handlers).use, restoring.another]
    sent = [message for handler in page_handlers for message in handler(event, other.request)]
    sent += saving.picture(place, "png", 90, False, False, other.request)
    sent += saving.sweep("gif")(place, 3, 640, other.request)
    assert len(sent) >= len(page_handlers) and str(edit.folder.path) not in repr(sent) and edit.key not in repr(sent)
    assert engine.rendered == rendered and len(engine.opened) == 1 and edit.highest == 1 and not edit.layers
    assert handlers.edits.of("other page") is None and owner.opened is edit
