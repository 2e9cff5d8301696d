"""`kontext-slider edit`: one picture, at the photograph's own size, and what its file says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.cli import main
from kontext_slider.metadata import read_metadata, strength_map
from tests.cli.helpers import DATE_TIME, GPS_IFD, SNOW, edit, status_of, sweep_file
from tests.tiny import tiny_image


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_edit_has_the_photographs_size(suffix: str, photo: Path, tmp_path: Path, model: str) -> None:
    """People who edit a photograph of 24 megapixels got one of the model's quarter of a megapixel back."""
    out = tmp_path / f"out.{suffix}"
    assert edit(photo, out, model, "--quiet", "--speed", "fast") == 0
    with Image.open(out) as picture, Image.open(photo) as original:
        assert picture.size == original.size
        assert (np.asarray(picture.convert("RGB")) != np.asarray(original)).any()
        assert picture.getexif()[DATE_TIME] == "2024:01:02 03:04:05"
    told = read_metadata(out)
    assert told["size"] == [240, 160] and told["edited_at"] != [240, 160] and told["speed"] == "fast"
    assert told["strengths"] == [1.0] and told["source"] == "photo.jpg" and told["steps"] == 2


def test_strength_zero_is_the_photograph_to_the_last_bit(photo: Path, tmp_path: Path, model: str) -> None:
    """Nothing happened means nothing: not even what fitting and enlarging a frame would round."""
    assert edit(photo, tmp_path / "out.png", model, "-s", "0", "--quiet") == 0
    with Image.open(tmp_path / "out.png") as picture, Image.open(photo) as original:
        assert (np.asarray(picture) == np.asarray(original)).all()


def test_the_models_own_frame_on_request(photo: Path, tmp_path: Path, model: str) -> None:
    """Whoever judges the model wants its pixels, and their size must not be told as the photograph's."""
    assert edit(photo, tmp_path / "out.png", model, "--working-size", "--quiet") == 0
    told = read_metadata(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert list(picture.size) == told["size"] == told["edited_at"] != [240, 160]
    assert "warning" not in told


def test_what_is_left_out_is_told(photo: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A place that is dropped without a word is missed later; one that is kept unasked tells where somebody lives."""
    assert edit(photo, tmp_path / "a.jpg", model) == 0
    told = capsys.readouterr()
    assert "Left out" in told.err and told.out == f"{tmp_path / 'a.jpg'}\n"
    assert edit(photo, tmp_path / "b.jpg", model, "--keep-location", "--quiet") == 0
    assert capsys.readouterr().err == ""
    with Image.open(tmp_path / "a.jpg") as without, Image.open(tmp_path / "b.jpg") as kept:
        assert not without.getexif().get_ifd(GPS_IFD) and kept.getexif().get_ifd(GPS_IFD)[1] == "N"


def test_the_warning_of_full_size_is_told_and_embedded(
    photo: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An edit that looks soft at 24 megapixels must not pass for what the model can do."""
    monkeypatch.setattr("kontext_slider.engine.full_size.UNSURE_SHARE", -1.0)
    assert edit(photo, tmp_path / "a.png", model) == 0
    warning = read_metadata(tmp_path / "a.png")["warning"]
    assert warning in capsys.readouterr().err and warning.endswith(".")
    assert read_metadata(sweep_file(photo, tmp_path / "gif", model))["warning"] == warning
    listed = json.loads((tmp_path / "gif" / "manifest.jsonl").read_text())
    assert listed["warning"] == warning and listed["size"] == [240, 160] and listed["speed"] == "exact"
    assert "warning" not in read_metadata(sweep_file(photo, tmp_path / "zip", model, "--format", "zip"))


def test_quality_makes_smaller_files(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A flag that is taken and forgotten."""
    for name, flags in {"a.jpg": [], "b.jpg": ["--quality", "30"], "a.webp": [], "b.webp": ["--quality", "30"]}.items():
        assert edit(photo, tmp_path / name, model, "--quiet", *flags) == 0
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.jpg", "b.jpg", "a.webp", "b.webp")}
    assert sizes["b.jpg"] < sizes["a.jpg"] and sizes["b.webp"] < sizes["a.webp"]
    assert edit(photo, tmp_path / "a.png", model, "--quality", "30") == 2
    assert ".png keeps every pixel" in capsys.readouterr().err


def test_transparent_pictures(tmp_path: Path, model: str) -> None:
    """A cut-out lost its transparency, or showed whatever colour was under it."""
    picture = tiny_image(120, 80, seed=3).resize((120, 80)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((120, 80)))
    picture.save(tmp_path / "a.png")
    assert edit(tmp_path / "a.png", tmp_path / "out.png", model, "--quiet") == 0
    with Image.open(tmp_path / "out.png") as edited:
        assert edited.mode == "RGBA"
        assert (np.asarray(edited.getchannel("A")) == np.asarray(picture.getchannel("A"))).all()
    with Image.open(sweep_file(tmp_path / "a.png", tmp_path / "out", model)) as animation:
        assert np.asarray(animation.convert("RGB"))[0, 0].min() >= 250  # nothing but white shows through


def test_phone_photographs(tmp_path: Path, model: str) -> None:
    """What a telephone writes was refused."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(tiny_image(96, 64, seed=1).resize((96, 64))).save(tmp_path / "IMG_0001.HEIC")
    assert edit(tmp_path / "IMG_0001.HEIC", tmp_path / "out.jpg", model, "--quiet") == 0
    assert read_metadata(sweep_file(tmp_path / "IMG_0001.HEIC", tmp_path / "out", model))["source"] == "IMG_0001.HEIC"


def test_a_mask_says_where(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """An edit of the sky alone needed another program, and its file did not say so."""
    mask, out = tmp_path / "mask.png", tmp_path / "out.jpg"
    levels = np.zeros((20, 30), np.uint8)
    levels[:, 15:] = 255
    Image.fromarray(levels).save(mask)
    assert edit(photo, tmp_path / "out.png", model, "-s", "0.6", "--mask", str(mask), "--quiet") == 0
    with Image.open(tmp_path / "out.png") as picture, Image.open(photo) as original:
        changed = np.asarray(picture) != np.asarray(original)
    assert not changed[:, :110].any() and changed[:, 130:].any()
    assert edit(photo, out, model, "-s", "0.6", "--mask", str(mask), "--quiet") == 0
    told = read_metadata(out)
    assert told["strengths"] == [0.6]
    assert (strength_map(told) == levels / 255).all()
    capsys.readouterr()
    assert main(["info", str(out), str(tmp_path / "out.png")]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["strength_map"] for line in shown] == ["30 x 20 pixels, mean 0.50"] * 2


def test_masks_that_cannot_be_used_get_a_sentence(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A mask that is ignored edits the whole photograph."""
    out = tmp_path / "out.png"
    assert edit(photo, out, model, "--mask", str(photo)) == 2 and "has colours" in capsys.readouterr().err
    assert edit(photo, out, model, "--mask", str(tmp_path / "no.png")) == 1
    assert edit(photo, out, model, "--mask", "m.png", "--working-size") == 2
    assert not out.exists()


def test_two_edits_one_after_the_other(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """Two runs over a file between them lose its quality, and the recipe of the first."""
    out, between, by_hand = (tmp_path / name for name in ("out.png", "between.png", "by_hand.png"))
    chain = ["edit", str(photo), "-i", "make it night", "-s", "0.6", *SNOW, "-s", "0.3", "--model", model, "--quiet"]
    assert main([*chain, "-o", str(out)]) == 0
    assert main([*chain[:6], "-o", str(between), "--model", model, "--quiet"]) == 0
    assert edit(between, by_hand, model, "-s", "0.3", "--quiet") == 0
    with Image.open(out) as picture, Image.open(by_hand) as expected:
        assert (np.asarray(picture) == np.asarray(expected)).all()
    told = read_metadata(out)
    assert told["instruction"] == "make it snow" and told["strengths"] == [0.3] and told["source"] == "photo.jpg"
    assert [(edit["instruction"], edit["strength"]) for edit in told["earlier_edits"]] == [("make it night", 0.6)]
    assert main([*chain, "-s", "0.1", "-o", str(out)]) == 2
    assert "There are 2 edits (-i), but 3 -s" in capsys.readouterr().err


def test_each_edit_of_a_chain_has_its_own_mask(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A mask for the sky alone must not hold back the edit of the whole picture."""
    mask, out = tmp_path / "mask.png", tmp_path / "out.jpg"
    levels = np.zeros((20, 30), np.uint8)
    levels[:, 15:] = 255
    Image.fromarray(levels).save(mask)
    words = ["edit", str(photo), "-i", "make it night", *SNOW, "--mask", str(mask), "--mask", "none"]
    assert main([*words, "-o", str(out), "--model", model, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["earlier_edits"][0]["strength_map"] == "30 x 20 pixels, mean 0.50" and "strength_map" not in told
    assert main([*words[:-2], "-o", str(out), "--model", "no-such-model"]) == 2
    assert "but 1 --mask" in capsys.readouterr().err


def test_going_beyond_the_full_edit_is_a_choice(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """-s 1.4 typed for 0.4 must not pass; asked for, the file says what it is."""
    tiny_image(32, 32, seed=1).save(photos / "a.png")
    out = tmp_path / "beyond.png"
    words = ["edit", str(photos / "a.png"), *SNOW, "-s", "1.4", "-o", str(out), "--model", model, "--quiet"]
    assert main(words) == 2 and "--allow-extrapolation" in capsys.readouterr().err and not out.exists()
    assert main([*words, "--allow-extrapolation"]) == 0
    assert read_metadata(out)["strengths"] == [1.4]


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["-s", "1.6"], 2, "or up to 1.5"),
        (["-s", "nan"], 2, "or up to 1.5"),
        (["-o", "out.avi"], 2, ".png"),
        (["-o", "PHOTO"], 2, "the source itself"),
        (["--model", "/no/such/folder"], 2, "no model"),
    ],
)
def test_wrong_edits_get_a_sentence(
    flags: list[str], status: int, words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above all, `-o` naming the source must not destroy a photograph."""
    photo = photos / "a.png"
    before = photo.read_bytes()
    flags = [str(photo) if flag == "PHOTO" else flag for flag in flags]
    assert status_of(["edit", str(photo), *SNOW, "-o", str(tmp_path / "out.png"), *flags]) == status
    assert words in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_unreadable_picture_of_an_edit(
    tmp_path: Path, photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, a sentence with the file's name, and no result."""
    words = ["edit", str(photos / "notes.txt"), *SNOW, "-o", str(tmp_path / "out.png"), "--model", model]
    assert main(words) == 1
    assert "notes.txt" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_the_folder_of_a_result_is_made_before_the_work(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """A folder that is not there, found out after minutes of rendering, throws them away."""
    out = tmp_path / "new" / "deep" / "a.png"
    words = ["edit", str(photos / "a.png"), *SNOW, "--model", model, "--quiet", "-o"]
    assert main([*words, str(out)]) == 0 and out.exists()
    assert main([*words, str(photos / "a.png" / "b.png"), "--model", "no-such-model"]) == 2
    assert "cannot be made" in capsys.readouterr().err
