"""Objects on black whose size is the strength."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.train.data.object_size import (
    LARGER,
    SMALLER,
    CutOut,
    SizeRecipe,
    find_cut_outs,
    pasted,
    sized_items,
)
from tests.train.data.helpers import load

RECIPE = SizeRecipe(size=128, num_steps=4, pictures="png")


@pytest.fixture
def folder(tmp_path):
    """A red disc with transparency around it, 100 pixels wide in a picture of 140 x 120."""
    disc = Image.new("RGBA", (140, 120))
    ImageDraw.Draw(disc).ellipse((20, 10, 119, 109), fill=(200, 30, 20, 255))
    (tmp_path / "cut").mkdir()
    disc.save(tmp_path / "cut" / "red-disc_03.png")
    return tmp_path / "cut"


def area(picture: Image.Image) -> float:
    """Of what is not black, in pixels of full brightness."""
    return float((np.asarray(picture, float)[..., 0] / 200).sum())


def test_the_size_follows_the_strength(folder):
    """An object that jumps, drifts or loses its place teaches that, and no size. Even factors of s are even steps."""
    for item in sized_items(str(folder), None, 12, RECIPE):
        row = item.row()
        source, *frames, edit = row.tiles
        areas = np.array([area(frame) for frame in frames])
        factors = areas[1:] / areas[:-1]
        assert np.ptp(factors) < 0.03 * factors.mean(), "equal factors, to a part of a pixel"
        grows = areas[-1] > areas[0]
        assert row.instruction in [words.format("red disc") for words in (LARGER if grows else SMALLER)]
        assert np.array_equal(source, frames[0]) and np.array_equal(edit, frames[-1])
        edges = [np.asarray(frame)[[0, -1]].max() for frame in frames]
        assert max(edges) == 0, "whole, on black"
        centres = [np.argwhere(np.asarray(frame)[..., 0] > 100).mean(0) for frame in frames]
        assert np.ptp(centres, axis=0).max() < 1.0
    assert len({item.row().instruction for item in sized_items(str(folder), None, 12, RECIPE)}) > 4


def test_a_size_is_what_it_says(folder):
    """Half the picture's side, not half of its area."""
    (cut,) = find_cut_outs(folder, None)
    seen = np.asarray(pasted(cut.read(), 0.5, (0.5, 0.5), 128))[..., 0]
    assert abs((seen.max(0) > 100).sum() - 64) <= 1
    assert cut.noun == "red disc"


def test_masks_cut_as_transparency_does(folder, tmp_path):
    """Segmenters write masks beside the pictures; a mask the wrong way round cuts out the ground."""
    disc = Image.open(folder / "red-disc_03.png")
    for name, picture in (("photos", disc.convert("RGB")), ("masks", disc.getchannel("A"))):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "red-disc_03.png")
    (with_mask,) = find_cut_outs(tmp_path / "photos", tmp_path / "masks")
    (with_alpha,) = find_cut_outs(folder, None)
    assert np.array_equal(with_mask.read(), with_alpha.read()) and with_mask.read().size == (100, 100)
    with pytest.raises(InvalidInput, match="no mask of the same name"):
        find_cut_outs(tmp_path / "photos", tmp_path / "none")
    with pytest.raises(InvalidInput, match="no transparency"):
        CutOut(tmp_path / "photos" / "red-disc_03.png", None, "").read()


def test_the_command_packs_them_for_the_trainer(folder, tmp_path, capsys):
    """`kontext-slider data object-size`, also of drawn scenes, whose masks are known."""
    for cut_outs in (str(folder), "scenes"):
        flags = ["--cutouts", cut_outs, "--num", "3", "--size", "256", "--num-steps", "2"]
        assert not main(["data", "object-size", *flags, "--out", str(tmp_path / "data")])
        data = load(tmp_path / "data")
        assert data["id"][:] == ["size-0000000", "size-0000001", "size-0000002"]
        assert data[0]["scores"] is None or data[0]["scores"]["kl"] is None
        assert len(data[0]["frames"]) == 3 and data[0]["strengths"] == [0, 0.5, 1]
    assert main(["data", "object-size", "--cutouts", str(tmp_path / "no"), "--out", str(tmp_path / "data")]) == 2
    Image.new("RGBA", (8, 8)).save(folder / "dot.png")
    assert main(["data", "object-size", "--cutouts", str(folder), "--num", "2", "--out", str(tmp_path / "data")]) == 1
    assert "less than 48 pixels" in capsys.readouterr().err
