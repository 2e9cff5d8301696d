"""Saving over the fake engine: what is written, what it tells, and what the person hears."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.export import read_metadata
from kontext_slider.images import read_image
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.saving import Saving, file_stem
from kontext_slider.ui.tab import Tab
from tests.ui.fake_engine import FakeEngine, faded


@pytest.fixture
def photograph(tmp_path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def handlers(tmp_path) -> Handlers:
    return Handlers(FakeEngine(), str(tmp_path / "cache"))


@pytest.fixture
def saving(handlers) -> Saving:
    return Saving(handlers.find, model="fake")


def edit(handlers, tab, photograph, instruction="make it night", num_frames=5, seed=3, steps=2, guidance=2.5):
    return list(handlers.edit(tab, photograph, instruction, num_frames, seed, steps, guidance))


def place(tab, strength=1.0):
    return {"edit": tab.edit.serial, "strength": strength}


def sweep(saving, tab, suffix="gif", num_frames=5, width=1024):
    return list(saving.sweep(suffix, tab, place(tab), num_frames, width))


def picture(saving, tab, strength, suffix="jpg", quality=95, keep_profile=False, keep_location=False):
    return list(saving.picture(tab, place(tab, strength), suffix, quality, keep_profile, keep_location))


def test_an_export_holds_no_preview(handlers, saving, photograph):
    """A GIF saved between preview and exact frame has one rough frame for ever."""
    tab = Tab()
    edit(handlers, tab, photograph, num_frames=2, steps=8)
    tab.edit._keep_preview(0.5, tab.edit.session.preview(0.5))
    assert not tab.edit.has(0.5) and [strength for strength, _ in tab.edit.previews()] == [0.5]
    sweep(saving, tab, "zip", num_frames=3)
    source = tab.edit.session.source
    assert tab.edit.picture(0.5).tobytes() == faded(source, 0.5).tobytes()
    assert tab.edit.previews() == []


def test_export_completes_the_sweep_first(handlers, saving, photograph):
    """A GIF saved while the strip is half full must still hold every frame."""
    tab = Tab()
    next(m for m in handlers.edit(tab, photograph, "make it night", 5, 7, 2, 2.5) if len(m[1].frames) == 2)
    messages = sweep(saving, tab, num_frames=9)
    path = Path(messages[-1][3]["value"])
    with Image.open(path) as gif:
        assert gif.n_frames == 9
    assert path.name == "make-it-night.gif"
    told = read_metadata(path)
    assert told["seed"] == 7 and told["model"] == "fake" and told["source"] == "photo.png"
    assert told["strengths"] == [k / 8 for k in range(9)]


def test_files_say_the_speed_that_made_them(handlers, photograph):
    """A frame of "fastest" and an exact one differ, and the files looked the same."""
    tab, saving = Tab(), Saving(handlers.find, model="fake", speed="fast")
    edit(handlers, tab, photograph)
    for message in (sweep(saving, tab)[-1], picture(saving, tab, 0.5)[-1]):
        assert read_metadata(message[3]["value"])["speed"] == "fast"


def test_the_file_of_a_replaced_edit_is_not_offered_any_more(handlers, saving, photograph):
    """The next edit deletes it: the button that stays would answer a press with nothing."""
    tab = Tab()
    messages = edit(handlers, tab, photograph) + edit(handlers, tab, photograph, "add thick fog")
    sweep(saving, tab)
    opened = next(m for m in messages if m[1].busy and m[1].busy.text == "Starting")
    assert opened[4] == gr.update(value=None, visible=False)
    failed = edit(handlers, tab, None)
    assert all(message[4] == gr.skip() for message in failed), "that of an open edit stays"


def test_saving_keeps_what_was_said_of_the_edit(handlers, saving, photograph):
    """The nearest instructions stay on the page; without the sentence before them nobody knows what they are."""
    tab = Tab()
    edit(handlers, tab, photograph, "add a dragon")
    assert "not trained" in sweep(saving, tab)[0][1]
    handlers.known = {}
    edit(handlers, tab, photograph, "add a dragon")
    assert sweep(saving, tab)[0][1] == ""


def test_export_before_an_edit_says_what_to_do(saving):
    """A click on GIF with nothing open must not fail without a word."""
    _, sentence, _, download = list(saving.sweep("gif", Tab(), None, 5, 1024))[-1]
    assert "Edit" in sentence and download["visible"] is False


def test_names_of_files_are_safe():
    """An instruction is also a file name."""
    assert file_stem("Make it snow!") == "make-it-snow"
    assert file_stem("../../..") == "edit"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_is_saved_at_the_photographs_own_size(handlers, saving, photograph, suffix):
    """The page saved 256 x 256 pixels of a photograph of 12 megapixels."""
    tab = Tab()
    edit(handlers, tab, photograph)
    *_, offer = picture(saving, tab, 0.37, suffix)[-1]
    path = Path(offer["value"])
    assert path.name == f"photo-make-it-night-0.37.{suffix}"
    with Image.open(path) as saved:
        assert saved.size == (60, 40)
        if suffix == "png":
            assert saved.convert("RGB").tobytes() == faded(read_image(photograph), 0.37).tobytes()
    told = read_metadata(path)
    assert told["strengths"] == [0.37] and told["seed"] == 3 and told["model"] == "fake"
    assert told["size"] == [60, 40] and told["edited_at"] != [60, 40]


def test_saving_renders_a_strength_that_is_not_there_yet(handlers, saving, photograph):
    """A person presses Save before the frame is finished and gets the nearest one instead."""
    tab = Tab()
    edit(handlers, tab, photograph)
    handlers.engine.rendered.clear()
    messages = picture(saving, tab, 0.37)
    assert handlers.engine.rendered == [0.37]
    assert any(message[0].busy and "step" in message[0].busy.text for message in messages[1:-1])
    assert 0.37 in [frame.strength for frame in messages[-2][0].frames]


def test_strength_0_is_the_photograph_itself(handlers, saving, photograph):
    """The untouched end of the slider would save a photograph that went through the model."""
    tab = Tab()
    edit(handlers, tab, photograph)
    *_, offer = picture(saving, tab, 0, "png")[-1]
    with Image.open(offer["value"]) as saved:
        assert saved.convert("RGB").tobytes() == read_image(photograph).tobytes()


def test_the_page_says_what_was_saved_and_where_full_size_is_not_to_be_trusted(photograph, tmp_path):
    """An edit that full size cannot follow is saved without a word."""
    handlers = Handlers(FakeEngine(warning="The full size is <soft> here."), str(tmp_path))
    tab, saving = Tab(), Saving(handlers.find)
    edit(handlers, tab, photograph)
    *_, note, _ = picture(saving, tab, 0.5)[-1]
    assert "60 x 40" in note and "full size is &lt;soft&gt;" in note
    *_, note, _ = sweep(saving, tab)[-1]
    assert "full size is &lt;soft&gt;" in note


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"suffix": "exe"}, "format"),
        ({"suffix": ["jpg"]}, "format"),
        ({"quality": 101}, "quality"),
        ({"strength": 1.5}, "A strength is a number"),
        ({"strength": None}, "A strength is a number"),
    ],
)
def test_what_the_browser_sends_is_checked_before_a_picture_is_written(handlers, saving, photograph, wrong, said):
    """The browser is not ours: a suffix of its own would choose the file's name on the server."""
    tab = Tab()
    edit(handlers, tab, photograph)
    [(_, sentence, _, offer)] = picture(saving, tab, **{"strength": 0.5, **wrong})
    assert said in sentence and offer["visible"] is False


@pytest.mark.parametrize("wrong", [{"num_frames": 10**9}, {"width": 7}, {"width": "1024"}, {"width": [640]}])
def test_what_the_browser_sends_is_checked_before_a_sweep_is_written(handlers, saving, photograph, wrong):
    """A width of a million pixels must not be tried."""
    tab = Tab()
    edit(handlers, tab, photograph)
    [(_, sentence, _, offer)] = sweep(saving, tab, **wrong)
    assert 'role="alert"' in sentence and offer["visible"] is False


def test_a_picture_of_an_edit_that_is_gone_is_refused_with_a_sentence(handlers, saving, photograph):
    """The slider of a replaced edit would save the other edit under its strength."""
    tab = Tab()
    edit(handlers, tab, photograph)
    gone = place(tab)
    edit(handlers, tab, photograph, "add thick fog")
    [(_, sentence, _, offer)] = list(saving.picture(tab, gone, "jpg", 95, False, False))
    assert "press Edit" in sentence and offer["visible"] is False


@pytest.mark.parametrize(
    ("width", "size"), [(640, (640, 480)), (1024, (1024, 768)), (1920, (1200, 900)), (0, (1200, 900))]
)
@pytest.mark.parametrize("suffix", ["gif", "zip"])
def test_a_sweep_is_made_of_full_size_pictures(handlers, saving, tmp_path, suffix, width, size):
    """Animations were 304 x 224 pixels, whatever the photograph; a small photograph must not be blown up."""
    path = tmp_path / "large.jpg"
    Image.linear_gradient("L").resize((1200, 900)).convert("RGB").save(path)
    tab = Tab()
    edit(handlers, tab, str(path), num_frames=2, steps=1)
    *_, offer = sweep(saving, tab, suffix, num_frames=2, width=width)[-1]
    file = offer["value"]
    if suffix == "zip":
        with zipfile.ZipFile(file) as archive:
            assert "manifest.json" in archive.namelist()
            file = io.BytesIO(archive.read(archive.namelist()[-2]))
    with Image.open(file) as saved:
        assert saved.size == size
