"""A result that becomes the source: nothing is lost, and files of others are photographs like any."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kontext_slider.edit import EarlierEdit
from kontext_slider.images import Photo
from kontext_slider.source_file import CHUNK, read_source, save_source
from tests.engine.helpers import same
from tests.tiny import tiny_image

NIGHT = {"instruction": "make it night", "seed": 0, "steps": 2, "guidance": 1.0, "edited_at": [32, 32]}


def test_a_photograph_comes_back_as_it_was(tmp_path: Path) -> None:
    """The camera's orientation turned an upright result once more; name, profile and edits were gone."""
    picture = tiny_image(40, 24).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    share = np.linspace(0, 1, 20, dtype=np.float32)[None].repeat(10, 0)
    edits = (EarlierEdit(NIGHT, 0.6, share), EarlierEdit(NIGHT, 1.0))
    turned = Image.Exif()
    turned[0x0112] = 6
    photo = Photo(picture, b"p" * 3_000_000, turned.tobytes(), "a b.jpg", ("XMP",), edits, "ab" * 32)
    again = read_source(save_source(photo, tmp_path / "x.png"))
    assert same(again.image, picture)
    kept = ("icc_profile", "exif", "name", "other_metadata", "sha256")
    assert [getattr(again, name) for name in kept] == [getattr(photo, name) for name in kept]
    assert [(edit.facts, edit.strength) for edit in again.earlier_edits] == [(NIGHT, 0.6), (NIGHT, 1.0)]
    assert np.abs(again.earlier_edits[0].share - share).max() < 0.003 and again.earlier_edits[1].share is None


@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        {"name": "a.jpg"},
        {"name": 5, "icc_profile": None, "exif": None, "other_metadata": [], "sha256": ""},
        {"name": "a", "icc_profile": "?", "exif": None, "other_metadata": [], "sha256": ""},
        {
            "name": "a",
            "icc_profile": None,
            "exif": None,
            "other_metadata": [],
            "sha256": "",
            "earlier_edits": [{"strength": 1}],
        },
    ],
)
def test_files_of_others_are_photographs(facts: object, tmp_path: Path) -> None:
    """A made-up chunk ended the edit with a KeyError, or named files of the server."""
    info, buffer = PngInfo(), BytesIO()
    if facts is not None:
        info.add(CHUNK, json.dumps(facts).encode())
    tiny_image(40, 24).save(buffer, format="PNG", pnginfo=info)
    (tmp_path / "cat.png").write_bytes(buffer.getvalue())
    photo = read_source(tmp_path / "cat.png")
    assert photo.name == "cat.png" and photo.earlier_edits == () and photo.image.size == (40, 24)
