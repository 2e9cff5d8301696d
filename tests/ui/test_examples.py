"""What a visitor finds on the page: shipped frames are those of their settings, and nothing works before it must."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import PRESETS, load_pipeline
from kontext_slider.ui import create_app
from kontext_slider.ui.examples import OPENING, OPENING_SERIAL, Example, credits, read_examples, read_opening
from kontext_slider.ui.handlers import Handlers
from tests.ui.fake_engine import FakeEngine
from tests.ui.test_saving import Saver, saved_file
from tests.ui.visitor import strengths

POCKET = Path(PRESETS["pocket"].model)
needs_opening = pytest.mark.skipif(not OPENING.is_file(), reason="assets/opening is not in this checkout")


@pytest.fixture
def visitor(engine, tmp_path) -> Saver:
    """One whose page opens with the shipped edit."""
    return Saver(Handlers(engine, str(tmp_path / "cache"), read_opening("pocket")))


@needs_opening
@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_the_shipped_frames_are_those_of_the_recipe():
    """New weights leave the old model's frames on the page: run `python -m kontext_slider.ui.examples` after them."""
    opening = read_opening("pocket")
    with SliderEngine(load_pipeline("pocket", device="cpu")).open(opening.photograph, **opening.settings) as session:
        for strength in (0.0, 0.5, 1.0):
            shipped = np.asarray(read_image(opening.frames[strength]), dtype=float)
            error = np.abs(shipped - np.asarray(session.render(strength), dtype=float)).mean()
            assert error <= (0 if strength == 0 else 3), f"strength {strength}: {error:.2f} of 255 levels off"


@needs_opening
def test_the_opening_is_whole_and_small():
    """A frame that is listed and not there is a hole in the strip; megabytes make a phone wait for the first drag."""
    opening = read_opening("pocket")
    assert sorted(opening.frames) == [k / 10 for k in range(11)] and opening.photograph.is_file()
    assert sum(path.stat().st_size for path in opening.frames.values()) < 500_000
    sizes = set()
    for path in opening.frames.values():
        with Image.open(path) as frame:
            sizes.add(frame.size)
    assert len(sizes) == 1


@needs_opening
def test_only_the_weights_that_made_it_open_with_it(tmp_path):
    """Frames of the pocket model under another model's name would promise what that one does not do."""
    assert read_opening("kontext-dev") is None and read_opening(None) is None
    assert read_opening("pocket", slider="somebody/slider") is None
    assert read_opening("pocket", path=tmp_path / "none.json") is None, "an installed wheel may have no assets"
    shutil.copytree(OPENING.parent, tmp_path / "opening")
    path = tmp_path / "opening" / "opening.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"model": "other"}))
    assert read_opening("other", path=path).settings["instruction"] == facts["instruction"]


@needs_opening
def test_the_page_opens_with_it_and_renders_nothing():
    """Every visitor who only looks would cost a render."""
    engine = FakeEngine()
    config = create_app(engine, model="pocket").get_config_file()
    values = {each["props"].get("elem_id"): each["props"].get("value") for each in config["components"]}
    assert len(values["filmstrip"]["frames"]) == 11 and values["filmstrip"]["edit"] == OPENING_SERIAL
    assert values["instruction"] == read_opening("pocket").settings["instruction"]
    assert "edited at" in values["saved"]
    assert engine.opened == []


@needs_opening
def test_the_first_strength_between_the_frames_opens_the_session(visitor, engine):
    """The slider rests between two shipped frames, and the page says that no edit is open."""
    last = visitor.commit(0.37, serial=OPENING_SERIAL)[-1]
    assert last.canvas.edit == OPENING_SERIAL, "another serial would empty the strip under the slider"
    assert strengths(last) == [0.37]
    assert engine.rendered == [0.37] and len(engine.opened) == 1
    visitor.commit(0.41, serial=OPENING_SERIAL)
    assert len(engine.opened) == 1


@needs_opening
def test_the_opening_can_be_drawn_from_its_frames(visitor, engine):
    """The first thing that a visitor drags would jump between eleven frames; or eleven frames are rendered for it."""
    canvas = visitor.draw(OPENING_SERIAL)[-1].canvas
    assert canvas.edit == OPENING_SERIAL and canvas.photograph is not None and len(canvas.frames) == 11
    assert [frame.strength for frame in canvas.frames if frame.transfer is None] == [0.0]
    assert engine.rendered == [] and len(engine.opened) == 1


@needs_opening
def test_the_opening_is_saved_at_full_size_as_any_edit(visitor, engine):
    """Shipped frames are compressed: what is saved must not be made of them."""
    visitor.place = lambda strength: {"edit": OPENING_SERIAL, "strength": strength}
    path = saved_file(visitor.picture(0.5, "png"))
    with Image.open(read_opening("pocket").photograph) as photograph, Image.open(path) as saved:
        assert saved.size == photograph.size
    assert 0.5 in engine.rendered
    assert saved_file(visitor.sweep("zip", 3, 640)).is_file()


@needs_opening
def test_an_edit_takes_the_place_of_the_opening(visitor, engine, photograph):
    """A late event of the opening must not open it again over the edit that the visitor has made since."""
    visitor.edit(photograph)
    serial = visitor.opened.serial
    assert serial > OPENING_SERIAL
    visitor.commit(0.37, serial=OPENING_SERIAL)
    assert visitor.opened.serial == serial and len(engine.opened) == 1


@needs_opening
def test_the_slider_and_a_save_share_one_session(visitor, engine, monkeypatch):
    """A save in the moment at which the slider comes to rest opened a second session and closed the first one."""
    opened = engine.open

    def slow(*arguments, **settings):
        time.sleep(0.2)
        return opened(*arguments, **settings)

    monkeypatch.setattr(engine, "open", slow)
    visitor.place = lambda strength, serial=None: {"edit": OPENING_SERIAL, "strength": strength}
    slider = threading.Thread(target=visitor.commit, args=(0.37,))
    slider.start()
    assert saved_file(visitor.picture(0.37)).is_file()
    slider.join(20)
    assert len(engine.opened) == 1


def test_examples_are_read_where_they_are_and_absent_where_not(tmp_path):
    """An installed package has no assets folder; the page must come up without."""
    assert read_examples(tmp_path / "none.json") == []
    rows = [
        {"image": "a.jpg", "instruction": "make it night", "source": "A. Painter, CC0"},
        {"image": "b.jpg", "instruction": "add fog", "source": "A. Painter, CC0"},
    ]
    (tmp_path / "examples.json").write_text(json.dumps(rows))
    examples = read_examples(tmp_path / "examples.json")
    assert examples[0] == Example(tmp_path / "a.jpg", "make it night", "A. Painter, CC0")
    assert credits(examples) == "A. Painter, CC0"


def test_the_shipped_examples_are_whole():
    """A picture that is listed but not in the repository would be a broken square."""
    assert all(example.image.is_file() and example.instruction for example in read_examples())
