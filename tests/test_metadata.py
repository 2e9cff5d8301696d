"""Files of others are told apart from ours, however they are made."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.export import save_sweep
from kontext_slider.metadata import (
    METADATA_KEY,
    describe,
    is_ours,
    metadata_text,
    pack_map,
    png_text,
    read_metadata,
    strength_map,
    summary,
    unpack_map,
)

STRANGE = [
    '{"title": "my holiday", "rating": 5}',
    "[1, 2]",
    '"instruction"',
    "17",
    "null",
    "[" * 100_000,
    '{"instruction": ["make it snow"]}',
    '{"instruction": "make it snow", "seed": "7"}',
    '{"instruction": "make it snow", "strengths": 0.5}',
    '{"strengths": [true]}',
    '{"strengths": [NaN]}',
    '{"instruction": "make it snow", "size": [1.5, 2]}',
    '{"instruction": "make it snow", "earlier_edits": {"instruction": "add fog", "strength": 1}}',
    '{"instruction": "make it snow", "earlier_edits": [{"instruction": "add fog"}]}',
    '{"instruction": "make it snow", "earlier_edits": [{"instruction": "add fog", "strength": "1"}]}',
    '{"instruction": "make it snow", "earlier_edits": [{"instruction": "x", "strength": 1, "earlier_edits": []}]}',
]


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "zip"])
def test_json_of_somebody_else_is_not_ours(text: str, suffix: str, tmp_path: Path) -> None:
    """`info` on a GIF whose comment is a JSON list ended in a TypeError."""
    path = tmp_path / f"a.{suffix}"
    picture = Image.new("RGB", (8, 8))
    if suffix == "png":
        picture.save(path, pnginfo=png_text(text))
    elif suffix == "gif":
        picture.save(path, comment=text)
    elif suffix == "jpg":
        exif = Image.Exif()
        exif[0x010E] = text[:60_000]
        picture.save(path, exif=exif)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", text)
    with pytest.raises(InvalidInput, match="does not say how it was made"):
        read_metadata(path)


def test_other_things_in_the_place_of_a_text(tmp_path: Path) -> None:
    """A description that is a number, an archive that asks for a password, a folder."""
    exif = Image.Exif()
    exif[0x010E] = 5
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", "{}")
    encrypted = bytearray(buffer.getvalue())
    encrypted[6] |= 1  # the flag of the local header, and of the central one
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(encrypted)
    for name in ("a.webp", "a.zip"):
        with pytest.raises(InvalidInput, match="does not say"):
            read_metadata(tmp_path / name)
    with pytest.raises(InvalidInput, match="no file|is a folder"):
        read_metadata(tmp_path)


def test_a_manifest_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    """A few kilobytes that unpack to gigabytes would take all memory."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"instruction": "x" * (17 * 2**20)}))
    with pytest.raises(InvalidInput, match="does not say"):
        read_metadata(tmp_path / "a.zip")


def test_facts_are_embedded_and_none_is_not(tmp_path: Path) -> None:
    """The size that is told is the written one, whatever the facts say of the photograph's."""
    facts = {"speed": "fast", "edited_at": [256, 256], "warning": "A sentence.", "quantize": None, "size": [1, 1]}
    frames = [(0.0, Image.new("RGB", (16, 8))), (1.0, Image.new("RGB", (16, 8)))]
    told = read_metadata(save_sweep(frames, tmp_path / "a.png", facts=facts, instruction="add fog"))
    assert told == {
        "speed": "fast",
        "edited_at": [256, 256],
        "warning": "A sentence.",
        "instruction": "add fog",
        "size": [16, 8],
        "strengths": [0.0, 1.0],
    }
    assert describe([0.5], (2, 1), "/home/me/cat.jpg", {}) == {
        "source": "cat.jpg",
        "size": [2, 1],
        "strengths": [0.5],
    }


def test_names_that_come_later_do_not_make_a_file_foreign(tmp_path: Path) -> None:
    """A newer version's file is read by an older one."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_text('{"instruction": "add fog", "new": {}}'))
    assert read_metadata(tmp_path / "a.png")["new"] == {}
    assert METADATA_KEY == "kontext_slider"  # files of earlier versions have this name in them


def test_a_strength_map_is_carried_and_read_back(tmp_path: Path) -> None:
    """A picture edited by a mask could not be made again once the mask was lost."""
    share = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(30, 0)
    facts = {"instruction": "add fog", "strength_map": pack_map(share)}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_text(metadata_text(facts)))
    told = read_metadata(tmp_path / "a.png")
    assert np.abs(strength_map(told) - share).max() <= 0.5 / 255 + 1e-6
    assert summary(told)["strength_map"] == "40 x 30 pixels, mean 0.50" and len(json.dumps(summary(told))) < 200
    assert strength_map({"instruction": "add fog"}) is None


def test_a_map_that_does_not_compress_becomes_smaller_not_longer() -> None:
    """A noisy mask of many megapixels made a recipe too long for a JPEG file, after the render."""
    noise = np.random.default_rng(0).random((600, 900), dtype=np.float32)
    for most in (40_000, 5_000):
        text = pack_map(noise, most)
        assert len(text) <= most
        assert abs(unpack_map(text).mean() - 0.5) < 0.01 and unpack_map(text).shape[1] < 512
    assert unpack_map(pack_map(np.ones((2000, 3000), np.float32))).shape == (341, 512)


@pytest.mark.parametrize("text", ["", "no map", "AAAA", pack_map(np.ones((4, 4)))[:60]])
def test_a_broken_map_is_a_sentence(text: str) -> None:
    """`info` on a file whose map was cut must still print the rest."""
    with pytest.raises(InvalidInput, match="strength map cannot be read"):
        unpack_map(text)
    assert "cannot be read" in summary({"instruction": "add fog", "strength_map": text})["strength_map"]


def test_a_map_of_another_program_is_not_taken(tmp_path: Path) -> None:
    """A number in the map's place ended in a TypeError."""
    text = json.dumps({"instruction": "x", "strength_map": 5})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=png_text(text))
    with pytest.raises(InvalidInput, match="does not say"):
        read_metadata(tmp_path / "a.png")


@pytest.mark.parametrize(
    "values",
    [
        {"strengths": [0.0, 10**400]},
        {"guidance": 10**400},
        {"guidance": True},
        {"seed": 0.5},
        {"steps": True},
        {"size": [0, 5]},
        {"size": [1, 2, 3]},
        {"strengths": [2.0]},
        {"strengths": [0.5] * 5000},
        {"instruction": "\ud800"},
        {"earlier_edits": [{"instruction": "make it snow"}]},
    ],
)
def test_values_that_no_edit_can_have_are_not_ours(values):
    """Each passed a check of types and was a traceback in whoever used it: 774 of 7,533 damaged files."""
    assert is_ours({"instruction": "make it snow"})
    assert not is_ours({"instruction": "make it snow"} | values)


def test_a_playlist_is_no_film(tmp_path):
    """FFmpeg reads what a playlist names, whatever the file is called."""
    save_sweep([(0.0, Image.new("RGB", (16, 16))), (1.0, Image.new("RGB", (16, 16)))], tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'a.mp4'}\n")
    with pytest.raises(InvalidInput, match="does not say how"):
        read_metadata(tmp_path / "b.mp4")
