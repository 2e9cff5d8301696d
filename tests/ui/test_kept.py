"""What a browser sends to have its edit again, and what the server does with it."""

from __future__ import annotations

import os

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.ui.handlers import AGAIN, BACK, Handlers
from kontext_slider.ui.kept import kept_edit, uploaded
from kontext_slider.ui.tab import Tab
from tests.ui.fake_engine import FakeEngine

SETTINGS = ("make it night", 5, 3, 2, 2.5)


@pytest.fixture
def photograph(tmp_path, monkeypatch) -> str:
    """A file where gradio keeps uploads."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    path = tmp_path / "uploads" / "hash" / "photo.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def handlers(tmp_path) -> Handlers:
    return Handlers(FakeEngine(), str(tmp_path / "cache"))


def sent(key: str, photograph: str, **changes: object) -> dict[str, object]:
    names = ("instruction", "num_frames", "seed", "steps", "guidance")
    return {"key": key, "photograph": photograph, **dict(zip(names, SETTINGS, strict=True)), **changes}


def reopen(handlers: Handlers, tab: Tab, data: object) -> list:
    return list(handlers.reopen(tab, gr.EventData(None, data)))


def said(messages: list) -> set[str]:
    return {strip.said for _, strip, *_ in messages if hasattr(strip, "said")} - {""}


def test_a_page_that_is_loaded_again_gets_the_open_edit(handlers, photograph):
    """gradio gives a page that is loaded again an empty state: frames that were there were out of reach."""
    before, after = Tab(), Tab()
    list(handlers.edit(before, photograph, *SETTINGS))
    made = list(handlers.engine.rendered)
    messages = reopen(handlers, after, sent(before.edit.key, photograph))
    assert after.edit is before.edit and said(messages) == {BACK}
    assert len(messages[-1][1].frames) == 5 and handlers.engine.rendered[: len(made)] == made


def test_an_edit_that_is_gone_is_opened_with_the_same_inputs(handlers, photograph):
    """A server that was restarted knows no key."""
    tab = Tab()
    messages = reopen(handlers, tab, sent("unknown", photograph))
    assert said(messages) == {AGAIN} and len(messages[-1][1].frames) == 5
    assert handlers.engine.opened == [{"instruction": "make it night", "seed": 3, "steps": 2, "guidance": 2.5}]
    assert messages[-1][1].inputs.photograph == photograph and messages[-1][1].key == tab.edit.key


@pytest.mark.parametrize(
    "data",
    [
        None,
        "a text",
        {},
        {"key": 1, "photograph": "x"},
        {"key": "x" * 101, "photograph": "x"},
        {"key": "x", "photograph": None},
        sent("x", "x", guidance="2"),
        sent("x", "x", guidance=True),
    ],
)
def test_what_names_no_edit_is_refused_with_a_sentence(handlers, data):
    """The browser is not ours: whatever it sends must neither render nor raise."""
    with pytest.raises(InvalidInput):
        kept_edit(data)
    [(_, _, sentence, *_)] = reopen(handlers, Tab(), data)
    assert "press Edit" in sentence and handlers.engine.opened == []


@pytest.mark.parametrize("changes", [{"instruction": 5}, {"seed": "1"}, {"steps": -1}, {"num_frames": 10**9}])
def test_settings_are_checked_as_those_of_an_edit(handlers, photograph, changes):
    """A second door to the engine must not be the one without a lock."""
    messages = reopen(handlers, Tab(), sent("unknown", photograph, **changes))
    assert 'role="alert"' in messages[-1][2] and handlers.engine.opened == []


def test_only_uploads_are_read(handlers, photograph, tmp_path):
    """A path from a browser could name any file of the server."""
    outside = tmp_path / "private.png"
    Image.new("RGB", (60, 40)).save(outside)
    link = os.path.join(os.path.dirname(photograph), "link.png")
    os.symlink(outside, link)
    climbing = os.path.join(os.path.dirname(photograph), "..", "..", "private.png")
    for path in (str(outside), link, climbing, "", os.path.dirname(photograph), photograph + ".gone"):
        with pytest.raises(InvalidInput, match="add it again"):
            uploaded(path)
        reopen(handlers, Tab(), sent("unknown", path))
    assert handlers.engine.opened == []
    assert uploaded(photograph) == photograph
