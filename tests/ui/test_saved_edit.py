"""What the page takes of a saved file, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kontext_slider.edit import MAX_SEED
from kontext_slider.errors import InvalidInput
from kontext_slider.files import file_sha256
from kontext_slider.metadata import pack_map
from kontext_slider.ui.saved_edit import SavedEdit, saved_edit
from tests.ui.fake_engine import FakeEngine

ORIGIN = {"model": "fake", "slider": None, "speed": "fast"}
RECIPE = {
    "instruction": "make it night",
    "seed": 7,
    "steps": 3,
    "guidance": 2.5,
    "model": "fake",
    "source": "photo.png",
    "strengths": [0.4],
}


def read(guidance_embeds: bool = False, **changes: Any) -> SavedEdit:
    return saved_edit(RECIPE | changes, FakeEngine(guidance_embeds=guidance_embeds).pipe, ORIGIN)


def test_a_recipe_becomes_the_settings_of_an_edit():
    """Whoever finds a picture again cannot go on with it."""
    edit = read()
    assert edit.settings == {"instruction": "make it night", "seed": 7, "steps": 3, "guidance": None}
    assert (edit.strength, edit.num_frames, edit.source, edit.remarks) == (0.4, None, "photo.png", ())
    assert read(guidance_embeds=True).settings["guidance"] == 2.5


def test_a_sweep_fills_the_strip_as_it_was():
    """A GIF of 21 frames came back as a strip of 11."""
    edit = read(strengths=[k / 20 for k in range(21)])
    assert (edit.num_frames, edit.num_strengths, edit.strength) == (21, 21, 1.0)
    for other in ([0, 1], [k / 9 for k in range(10)], [k / 100 for k in range(101)], [0, 0.3, 1], []):
        assert read(strengths=other).num_frames is None


def test_several_edits_become_the_pages_list():
    """The last edit of a saved chain came back on the untouched photograph."""
    share = pack_map(np.ones((4, 4)))
    fog = {"instruction": "add fog", "strength": 0.6, "seed": 7, "steps": 3, "guidance": 2.5}
    edit = read(earlier_edits=[fog, fog | {"strength_map": share}])
    listed = [(layer.instruction, layer.strength, layer.strength_map) for layer in edit.layers]
    assert listed == [("add fog", 0.6, ""), ("add fog", 0.6, share), ("make it night", 0.4, "")]
    assert edit.remarks == () and read().layers == ()
    for wrong in ([fog | {"strength": 1.2}], [fog | {"strength_map": "x"}], [fog] * 6):
        assert read(earlier_edits=wrong).layers == () and "not restored" in read(earlier_edits=wrong).remarks[0]


def test_what_will_differ_is_said():
    """The strength beyond 1 or another model's edit were lost without a word."""
    other_seed = {"instruction": "add fog", "strength": 1.0, "seed": 8, "steps": 3, "guidance": 2.5}
    assert "last of 2 edits" in read(earlier_edits=[other_seed]).remarks[0]
    beyond = read(strengths=[1.3])
    assert beyond.strength == 1 and "1.30" in beyond.remarks[0]
    assert "kontext-dev" in read(model="kontext-dev").remarks[0]
    assert "other-slider" in read(slider="other-slider").remarks[0]


def test_a_strength_map_comes_back_if_it_can_be_read():
    """What was painted was lost; or a map that somebody has changed breaks the page."""
    text = pack_map(np.array([[0.0, 1.0]]))
    assert (read(strength_map=text).strength_map, read(strength_map=text).remarks) == (text, ())
    assert read(strength_map="x").strength_map == "" and "cannot be read" in read(strength_map="x").remarks[0]
    assert read().strength_map == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruction": " "},
        {"instruction": "x" * 501},
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"seed": 10**4000},
        {"steps": 0},
        {"steps": 51},
        {"guidance": float("inf")},
        {"guidance": 0.5},
        {"strengths": [2.0]},
        {"strengths": [-0.1]},
        {"strengths": [0, float("inf")]},
    ],
)
def test_values_that_the_page_does_not_take_are_refused(wrong):
    """A file may come from anybody: a billion steps would be rendered."""
    with pytest.raises(InvalidInput):
        read(guidance_embeds=True, **wrong)


def test_words_are_needed():
    """A contact sheet of the trainer has many instructions and no single edit."""
    recipe = {name: value for name, value in RECIPE.items() if name != "instruction"}
    with pytest.raises(InvalidInput, match="words"):
        saved_edit(recipe, FakeEngine().pipe, ORIGIN)


def test_a_name_from_a_file_is_only_a_name():
    """A path of somebody's computer, or a name of a million letters, would stand on the page."""
    assert read(source="/home/somebody/a.jpg").source == "a.jpg"
    assert read(source="C:\\a\\b.jpg").source == "b.jpg"
    assert len(read(source="x" * 10**6).source) < 100
    assert "\n" not in read(source="a\nb.jpg").source


def test_the_photograph_is_known_by_its_bytes(photograph, tmp_path):
    """Every second photograph of a telephone is called IMG_0001.jpg."""
    digest = file_sha256(photograph)
    other = tmp_path / "other" / photograph.name
    other.parent.mkdir()
    other.write_bytes(photograph.read_bytes() + b" ")
    assert read(source_sha256=digest, source="x.jpg").is_made_from(photograph)
    assert not read(source_sha256=digest).is_made_from(other)
    assert read().is_made_from(other), "files of earlier versions tell only the name"
    assert not read(source="x.jpg").is_made_from(photograph)
