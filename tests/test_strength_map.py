"""Maps of strength from picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kontext_slider.errors import InvalidInput, UnreadableImage
from kontext_slider.strength_map import MAX_SIDE, read_map


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "P", "LA"])
def test_grey_pictures_of_every_kind_are_the_same_map(mode: str, tmp_path: Path) -> None:
    """What one drawing program writes worked and what another writes did not, or came out darker."""
    levels = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    picture = (
        Image.fromarray(levels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(levels).convert(mode)
    )
    picture.save(tmp_path / "mask.png")
    assert (read_map(tmp_path / "mask.png") == levels / 255).all()


def test_levels_are_taken_as_stored(tmp_path: Path) -> None:
    """A half of the strength must not become another by a gamma; 16 bits must not become 256 levels."""
    linear = PngInfo()
    linear.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.new("L", (8, 8), 128).save(tmp_path / "a.png", pnginfo=linear)
    assert np.allclose(read_map(tmp_path / "a.png"), 128 / 255)
    Image.fromarray(np.full((8, 8), 32896 + 64, np.uint16)).save(tmp_path / "b.png")
    assert np.allclose(read_map(tmp_path / "b.png"), 32960 / 65535)


def test_large_maps_are_reduced_and_turned_ones_are_turned(tmp_path: Path) -> None:
    """A mask painted over a photograph of 110 megapixels would take gigabytes as floats."""
    Image.new("L", (MAX_SIDE + 200, 50), 255).save(tmp_path / "a.png")
    assert read_map(tmp_path / "a.png").shape[1] == MAX_SIDE and read_map(tmp_path / "a.png").min() == 1
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((40, 20)).save(tmp_path / "b.jpg", exif=exif)
    turned = read_map(tmp_path / "b.jpg")
    assert turned.shape == (40, 20) and turned[0, 0] > turned[0, -1]


def test_pictures_that_are_no_map_get_a_sentence(tmp_path: Path) -> None:
    """A photograph or a cut-out given as the mask gave some strengths or other."""
    Image.new("RGB", (8, 8), (200, 10, 10)).save(tmp_path / "red.png")
    Image.new("LA", (8, 8), (255, 100)).save(tmp_path / "clear.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, words, error in (
        ("red.png", "has colours", InvalidInput),
        ("clear.png", "transparent", InvalidInput),
        ("text.png", "not an image", UnreadableImage),
        ("none.png", "no file", UnreadableImage),
    ):
        with pytest.raises(error, match=words):
            read_map(tmp_path / name)
