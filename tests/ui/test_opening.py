"""What the page opens with: shipped frames are those of the recipe beside them, and nothing works before it must."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import PRESETS, load_pipeline
from kontext_slider.ui import create_app
from kontext_slider.ui.handlers import Handlers
from kontext_slider.ui.opening import OPENING, OPENING_SERIAL, read_opening
from kontext_slider.ui.saving import Saving
from kontext_slider.ui.tab import Tab
from tests.ui.fake_engine import FakeEngine

POCKET = Path(PRESETS["pocket"].model)

pytestmark = pytest.mark.skipif(not OPENING.is_file(), reason="assets/opening is not in this checkout")


@pytest.fixture
def handlers(tmp_path) -> Handlers:
    return Handlers(FakeEngine(), str(tmp_path / "cache"), read_opening("pocket"))


def place(strength: float) -> dict:
    return {"edit": OPENING_SERIAL, "strength": strength}


def commit(handlers: Handlers, tab: Tab, strength: float) -> list:
    return list(handlers.commit(tab, gr.EventData(None, place(strength))))


@pytest.mark.skipif(not (POCKET / "model_index.json").is_file(), reason="weights/pocket is not in this checkout")
def test_the_shipped_frames_are_those_of_the_recipe():
    """New weights leave the old model's frames on the page: run `python -m kontext_slider.ui.opening` after them."""
    opening = read_opening("pocket")
    with SliderEngine(load_pipeline("pocket", device="cpu")).open(
        opening.photograph, opening.instruction, seed=opening.seed, steps=opening.steps, guidance=opening.guidance
    ) as session:
        for strength in (0.0, 0.5, 1.0):
            shipped = np.asarray(read_image(opening.frames[strength]), dtype=float)
            error = np.abs(shipped - np.asarray(session.show(strength), dtype=float)).mean()
            assert error <= (0 if strength == 0 else 3), f"strength {strength}: {error:.2f} of 255 levels off"


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


def test_only_the_weights_that_made_it_open_with_it(tmp_path):
    """Frames of the pocket model under another model's name would promise what that one does not do."""
    assert read_opening("kontext-dev") is None and read_opening(None) is None
    assert read_opening("pocket", slider="somebody/slider") is None
    assert read_opening("pocket", path=tmp_path / "none.json") is None, "an installed wheel may have no assets"
    shutil.copytree(OPENING.parent, tmp_path / "opening")
    told = json.loads((tmp_path / "opening" / "opening.json").read_text())
    (tmp_path / "opening" / "opening.json").write_text(json.dumps(told | {"model": "other"}))
    assert read_opening("other", path=tmp_path / "opening" / "opening.json").instruction == told["instruction"]


def test_the_page_opens_with_it_and_renders_nothing():
    """Every visitor who only looks would cost a render."""
    engine = FakeEngine()
    config = create_app(engine, model="pocket").get_config_file()
    values = {each["props"].get("elem_id"): each["props"].get("value") for each in config["components"]}
    assert len(values["filmstrip"]["frames"]) == 11 and values["filmstrip"]["edit"] == OPENING_SERIAL
    assert values["instruction"] == read_opening("pocket").instruction
    assert "edited at" in values["saved"]
    assert engine.opened == []


def test_the_first_strength_between_the_frames_opens_the_session(handlers):
    """The slider rests between two shipped frames, and the page says that no edit is open."""
    tab = Tab()
    strip, _ = commit(handlers, tab, 0.37)[-1]
    assert strip.edit == OPENING_SERIAL, "another serial would empty the strip under the person's hand"
    assert [frame.strength for frame in strip.frames] == [0.37]
    assert handlers.engine.rendered == [0.37] and len(handlers.engine.opened) == 1
    commit(handlers, tab, 0.41)
    assert len(handlers.engine.opened) == 1


def test_the_opening_is_saved_at_full_size_as_any_edit(handlers):
    """Shipped frames are compressed: what is saved must not be made of them."""
    tab, saving = Tab(), Saving(handlers.find, model="pocket")
    *_, offer = list(saving.picture(tab, place(0.5), "png", 95, False, False))[-1]
    with Image.open(read_opening("pocket").photograph) as photograph, Image.open(offer["value"]) as saved:
        assert saved.size == photograph.size
    assert 0.5 in handlers.engine.rendered
    *_, offer = list(saving.sweep("zip", tab, place(0.5), 3, 640))[-1]
    assert Path(offer["value"]).is_file()


def test_an_edit_takes_the_place_of_the_opening(handlers, tmp_path):
    """A late event of the opening must not open it again over the edit that the person has made since."""
    tab = Tab()
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 48), "teal").save(path)
    list(handlers.edit(tab, str(path), "make it night", 3, 0, 2, 2.5))
    serial = tab.edit.serial
    assert serial > OPENING_SERIAL
    commit(handlers, tab, 0.37)
    assert tab.edit.serial == serial and len(handlers.engine.opened) == 1


def test_the_slider_and_a_save_share_one_session(handlers, monkeypatch):
    """A save in the moment at which the slider comes to rest opened a second session and closed the first one."""
    tab, saving, opened = Tab(), Saving(handlers.find), handlers.open_session

    def slow(*arguments, **settings):
        time.sleep(0.2)
        return opened(*arguments, **settings)

    monkeypatch.setattr(handlers, "open_session", slow)
    slider = threading.Thread(target=commit, args=(handlers, tab, 0.37))
    slider.start()
    *_, offer = list(saving.picture(tab, place(0.37), "jpg", 95, False, False))[-1]
    slider.join(20)
    assert Path(offer["value"]).is_file() and len(handlers.engine.opened) == 1
