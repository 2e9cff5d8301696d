"""Single pictures are written, read back, and compared with what a person would look for in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.export import read_metadata
from kontext_slider.picture_file import picture_name, save_picture

RECIPE = {"instruction": 'make it "snow" & <rain> — naïve 雪', "strength": 0.35, "seed": 7}


def drawn(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth coloured picture."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    return Image.fromarray(np.stack([60 + 150 * x, 100 + 40 * y, 200 - 150 * x], axis=-1).astype(np.uint8))


def psnr(first: Image.Image, second: Image.Image) -> float:
    error = np.mean((np.asarray(first, float) - np.asarray(second, float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "jpeg", "JPG"])
def test_a_picture_says_how_it_was_made(tmp_path: Path, suffix: str) -> None:
    """One edited picture could not be repeated: its seed and words were lost."""
    path = tmp_path / f"out.{suffix}"
    assert save_picture(drawn(), path, RECIPE) == ""
    assert read_metadata(path) == RECIPE
    with Image.open(path) as picture:
        assert psnr(picture, drawn()) > (80 if suffix in ("png", "webp") else 35)


def test_the_name_of_a_picture_says_what_was_done() -> None:
    """Every download was called the same."""
    assert picture_name("cat.jpg", "Make it snow!", 0.35, "jpg") == "cat-make-it-snow-0.35.jpg"
    assert picture_name("cat.jpg", "Make it snow!", 1, ".PNG") == "cat-make-it-snow-1.00.png"
