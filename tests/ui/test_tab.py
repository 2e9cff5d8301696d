"""A browser tab's state: what is closed, what is kept, what is never shared."""

from __future__ import annotations

from copy import deepcopy

import pytest
from PIL import Image

from kontext_slider.errors import SessionClosed
from kontext_slider.ui.tab import Recipe, Tab
from tests.ui.fake_engine import FakeEngine

RECIPE = Recipe("make it night", 0, 2, 2.5, "photo.png", (0.0, 1.0))


def opened(tab, tmp_path):
    session = FakeEngine().open(Image.new("RGB", (32, 32), "teal"), RECIPE.instruction, steps=2)
    return tab.replace(session, RECIPE, str(tmp_path))


def test_every_visitor_has_a_tab_of_their_own():
    """Gradio copies the initial state; a shared one would show one visitor's picture to another."""
    tab = Tab()
    assert deepcopy(tab) is not tab


def test_serials_grow_even_when_the_server_has_forgotten_the_tab(tmp_path):
    """The page ignores smaller serials: a count that began anew would leave it showing the old edit for ever."""
    first = opened(Tab(), tmp_path).serial
    tab = Tab()
    assert first <= opened(tab, tmp_path).serial < opened(tab, tmp_path).serial


def test_closing_deletes_files_and_ends_work(tmp_path):
    """A closed tab must give back its disk space, and a render that outlives it must not write there again."""
    tab = Tab()
    edit = opened(tab, tmp_path)
    edit.fill(1.0)
    tab.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SessionClosed):
        edit.fill(0.0)
    with pytest.raises(SessionClosed):
        edit.show(0.5)
    assert list(tmp_path.iterdir()) == []
    tab.close()  # twice is fine
