"""Saving over the fake engine: what is written, what it says of its origin, and what the visitor reads."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import Superseded
from kontext_slider.export import read_metadata
from kontext_slider.images import read_image
from kontext_slider.metadata import pack_map, strength_map
from kontext_slider.ui import create_app
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.saving import Saving, file_stem
from tests.ui.fake_engine import FakeEngine, faded
from tests.ui.visitor import Message, Visitor, named


class Saver(Visitor):
    """A visitor who saves. `options` are those of `Saving`. `painted`: the strength map as the browser sends it."""

    painted: Any = None

    def __init__(self, handlers: Handlers, **options: str) -> None:
        super().__init__(handlers)
        self.saving = Saving(handlers, **{"model": "fake", **options})

    def place(self, strength: Any, serial: int | None = None) -> dict[str, Any]:
        painted = {} if self.painted is None else {"strength_map": self.painted}
        return super().place(strength, serial) | painted

    def sweep(self, suffix: str = "gif", num_frames: int = 5, width: int = 1024) -> list[Message]:
        return list(named(self.saving.sweep(suffix)(self.place(1.0), num_frames, width, self.request)))

    def picture(self, strength: Any, suffix: str = "jpg", quality: Any = 95) -> list[Message]:
        return list(named(self.saving.picture(self.place(strength), suffix, quality, False, False, self.request)))


@pytest.fixture
def visitor(handlers) -> Saver:
    return Saver(handlers)


def saved_file(messages: list[Message]) -> Path:
    """The file that is offered."""
    [offer] = [message.download for message in messages if message.download.get("visible")]
    return Path(offer["value"])


def saved_note(messages: list[Message]) -> str:
    return [message.note for message in messages if isinstance(message.note, str)][-1]


def test_an_export_holds_no_preview(visitor, photograph, monkeypatch):
    """A GIF saved between preview and exact frame has one rough frame for ever."""

    def superseded(strength, on_step):
        raise Superseded("after the preview")

    visitor.edit(photograph, num_frames=2, steps=8)
    monkeypatch.setattr(visitor.opened.session, "render", superseded)
    visitor.commit(0.5)
    assert not visitor.opened.has(0.5) and [strength for strength, _ in visitor.opened.previews()] == [0.5]
    visitor.sweep("zip", num_frames=3)
    with Image.open(dict(visitor.opened.frames())[0.5].picture) as frame:
        assert frame.convert("RGB").tobytes() == faded(visitor.opened.session.source, 0.5).tobytes()
    assert visitor.opened.previews() == []


def test_export_completes_the_sweep_first(visitor, photograph):
    """A GIF saved while the strip is half full must still hold every frame."""
    next(message for message in visitor.begin_edit(photograph, seed=7) if len(message.canvas.frames) == 2)
    path = saved_file(visitor.sweep(num_frames=9))
    with Image.open(path) as gif:
        assert gif.n_frames == 9
    assert path.name == "make-it-night.gif"
    facts = read_metadata(path)
    assert facts["seed"] == 7 and facts["model"] == "fake" and facts["source"] == "photo.png"
    assert facts["strengths"] == [k / 8 for k in range(9)]


def test_files_say_the_speed_that_made_them(handlers, photograph):
    """A frame of "fastest" and an exact one differ, and the files looked the same."""
    visitor = Saver(handlers, speed="fast")
    visitor.edit(photograph)
    for messages in (visitor.sweep(), visitor.picture(0.5)):
        assert read_metadata(saved_file(messages))["speed"] == "fast"


def test_saving_keeps_what_was_said_of_the_edit(visitor, photograph):
    """The nearest instructions stay on the page; without the sentence before them nobody knows what they are."""
    visitor.edit(photograph, "add a dragon")
    assert "not trained" in visitor.sweep()[0].notice
    visitor.edit(photograph, "make it night")
    assert visitor.sweep()[0].notice == ""


def test_names_of_files_are_safe():
    """An instruction is also a file name."""
    assert file_stem("Make it snow!") == "make-it-snow"
    assert file_stem("../../..") == "edit"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_is_saved_at_the_photographs_own_size(visitor, photograph, suffix):
    """The page saved 256 x 256 pixels of a photograph of 12 megapixels."""
    visitor.edit(photograph)
    path = saved_file(visitor.picture(0.37, suffix))
    assert path.name == f"photo-make-it-night-0.37.{suffix}"
    with Image.open(path) as saved:
        assert saved.size == (320, 240)
        if suffix == "png":
            assert saved.convert("RGB").tobytes() == faded(read_image(photograph), 0.37).tobytes()
    facts = read_metadata(path)
    assert facts["strengths"] == [0.37] and facts["seed"] == 3 and facts["model"] == "fake"
    assert facts["size"] == [320, 240] and facts["edited_at"] != [320, 240]


def test_saving_renders_a_strength_that_is_not_there_yet(visitor, engine, photograph):
    """A visitor presses Save before the frame is finished and gets the nearest one instead."""
    visitor.edit(photograph)
    engine.rendered.clear()
    messages = visitor.picture(0.37)
    assert engine.rendered == [0.37]
    busy = [message.canvas.busy for message in messages if message.canvas != gr.skip()]
    assert any(each and "step" in each.text for each in busy) and busy[-1] is None
    assert 0.37 in [frame.strength for frame in messages[-1].canvas.frames]


def test_strength_0_is_the_photograph_itself(visitor, photograph):
    """The untouched end of the slider would save a photograph that went through the model."""
    visitor.edit(photograph)
    with Image.open(saved_file(visitor.picture(0, "png"))) as saved:
        assert saved.convert("RGB").tobytes() == read_image(photograph).tobytes()


def test_the_page_says_what_was_saved_and_where_full_size_is_not_to_be_trusted(photograph, tmp_path):
    """An edit that full size cannot follow is saved without a word."""
    visitor = Saver(Handlers(FakeEngine(warning="The full size is <soft> here."), str(tmp_path)))
    visitor.edit(photograph)
    note = saved_note(visitor.picture(0.5))
    assert "320 x 240" in note and "full size is &lt;soft&gt;" in note
    assert "full size is &lt;soft&gt;" in saved_note(visitor.sweep())


@pytest.mark.parametrize("place", [None, {}, {"edit": 0, "strength": 1}, {"edit": 1, "strength": 1}])
@pytest.mark.parametrize("kind", ["picture", "sweep"])
def test_save_without_an_edit_says_what_to_do(visitor, place, kind):
    """A press on Save with nothing open must not fail without a word."""
    visitor.place = lambda strength: place
    [message] = visitor.picture(1) if kind == "picture" else visitor.sweep()
    assert "press Edit" in message.notice and message.download["visible"] is False


def test_a_picture_of_an_edit_that_is_gone_is_refused_with_a_sentence(visitor, photograph):
    """The slider of a replaced edit would save the other edit under its strength."""
    visitor.edit(photograph)
    gone = visitor.place(1.0)
    visitor.edit(photograph, "add thick fog")
    visitor.place = lambda strength: gone
    [message] = visitor.picture(1.0)
    assert "press Edit" in message.notice and message.download["visible"] is False


@pytest.mark.parametrize("strength", [1.5, None])
def test_the_strength_of_a_save_is_checked(visitor, photograph, strength):
    """A browser may send anything."""
    visitor.edit(photograph)
    [message] = visitor.picture(strength)
    assert "A strength is a number" in message.notice and message.download["visible"] is False


def test_the_number_of_frames_of_a_save_is_checked(visitor, photograph):
    """A billion frames must not be tried."""
    visitor.edit(photograph)
    messages = visitor.sweep(num_frames=10**9)
    assert 'role="alert"' in messages[-1].notice and not any(each.download.get("visible") for each in messages)


def test_gradio_refuses_what_a_widget_does_not_offer():
    """A format of the browser's own would choose the file's name on the server; a width of a million pixels must not
    be tried."""
    blocks = create_app(FakeEngine()).blocks.values()
    widgets = {getattr(block, "label", None): block for block in blocks}
    wrong = {
        "Format of the picture": ("exe", "../x", ["jpg"]),
        "Quality": (101, -1),
        "Width of the sweep's pictures": (7, "1024", [7]),
        "Frames in the strip and in exports": (10**9, -1),
    }
    for label, values in wrong.items():
        for value in values:
            with pytest.raises(gr.Error):
                widgets[label].preprocess(value)


@pytest.mark.parametrize(
    ("width", "size"), [(640, (640, 480)), (1024, (1024, 768)), (1920, (1200, 900)), (0, (1200, 900))]
)
@pytest.mark.parametrize("suffix", ["gif", "zip"])
def test_a_sweep_is_made_of_full_size_pictures(visitor, tmp_path, suffix, width, size):
    """Animations were 304 x 224 pixels, whatever the photograph; a small photograph must not be blown up."""
    path = tmp_path / "large.jpg"
    Image.linear_gradient("L").resize((1200, 900)).convert("RGB").save(path)
    visitor.edit(path, num_frames=2, steps=1)
    file: Any = saved_file(visitor.sweep(suffix, num_frames=2, width=width))
    if suffix == "zip":
        with zipfile.ZipFile(file) as archive:
            assert "manifest.json" in archive.namelist()
            file = io.BytesIO(archive.read(archive.namelist()[-2]))
    with Image.open(file) as saved:
        assert saved.size == size


def left_half() -> np.ndarray:
    """The share of the strength, (H, W): all of it on the left, none on the right."""
    return np.repeat([[1.0, 0.0]], 3, axis=0).repeat(2, axis=1)


def test_a_painted_picture_is_saved_as_it_is_seen(visitor, engine, photograph):
    """What a visitor has painted was on the screen and not in the file, or not in its recipe."""
    visitor.edit(photograph)
    visitor.painted = pack_map(left_half())
    messages = visitor.picture(0.6, "png")
    path = saved_file(messages)
    with Image.open(path) as saved:
        expected = visitor.opened.session.picture(0.6 * left_half())
        assert np.array_equal(np.asarray(saved), np.asarray(expected))
    assert np.array_equal(strength_map(read_metadata(path)), left_half())
    assert "strength 0.60, painted" in saved_note(messages)


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4", "zip"])
def test_a_sweep_carries_the_map(visitor, photograph, suffix):
    """An animation whose pictures grow all over, though a half was painted."""
    visitor.edit(photograph, num_frames=3)
    visitor.painted = pack_map(left_half())
    path = saved_file(visitor.sweep(suffix, num_frames=3))
    assert np.array_equal(strength_map(read_metadata(path)), left_half())
    if suffix == "zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            pictures = [np.asarray(read_image(archive.read(name))) for name in names]
        session = visitor.opened.session
        for strength, picture in zip([0, 0.5, 1.0], pictures, strict=True):
            assert np.array_equal(picture, np.asarray(session.picture(strength * left_half())))


@pytest.mark.parametrize("painted", [5, "", "no picture", "x" * 500_000, "large", "colour"])
@pytest.mark.parametrize("kind", ["picture", "sweep"])
def test_a_map_that_is_none_is_refused_with_a_sentence(visitor, photograph, painted, kind):
    """A browser may send anything: what is huge, cannot be read, or is no map."""
    sizes = {"large": ("L", (513, 10)), "colour": ("RGB", (10, 10))}
    visitor.edit(photograph)
    visitor.painted = painted
    if painted in sizes:
        buffer = io.BytesIO()
        Image.new(*sizes[painted]).save(buffer, "PNG")
        visitor.painted = base64.b64encode(buffer.getvalue()).decode()
    [message] = visitor.picture(1.0) if kind == "picture" else visitor.sweep()
    assert "The painted strength" in message.notice and message.download["visible"] is False


def test_nothing_beyond_full_is_saved_unless_that_is_switched_on(visitor, photograph):
    """A picture that the page could not show."""
    visitor.edit(photograph)
    assert "A strength is a number from 0" in visitor.picture(1.2)[-1].notice
    visitor.beyond(True)
    assert read_metadata(saved_file(visitor.picture(1.2)))["strengths"] == [1.2]
