"""Pictures to edit on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.helpers import DATE_TIME, GPS_IFD
from tests.tiny import tiny_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    tiny_image(48, 32, seed=1).save(folder / "a.png")
    tiny_image(32, 48, seed=2).save(folder / "b.jpg")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph larger than the model's frames, with the place and time where it was taken."""
    exif = Image.Exif()
    exif[DATE_TIME] = "2024:01:02 03:04:05"
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    path = tmp_path / "photo.jpg"
    tiny_image(240, 160, seed=1).resize((240, 160)).save(path, exif=exif, quality=95)
    return path
