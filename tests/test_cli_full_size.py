"""`edit` and `sweep` at the photograph's own size, and what their files say of it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider.cli import main
from kontext_slider.metadata import read_metadata
from tests.tiny import KNOWN_INSTRUCTIONS, tiny_image, tiny_pipeline

SNOW = ["-i", "make it snow", "--device", "cpu"]
GPS_IFD, DATE_TIME = 0x8825, 0x0132


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model folder, whose frames have the area of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph larger than the model's frames, with the place and time where it was taken."""
    exif = Image.Exif()
    exif[DATE_TIME] = "2024:01:02 03:04:05"
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    path = tmp_path / "photo.jpg"
    tiny_image(240, 160, seed=1).resize((240, 160)).save(path, exif=exif, quality=95)
    return path


def edit(photo: Path, out: Path, model: str, *flags: str) -> int:
    return main(["edit", str(photo), *SNOW, "-o", str(out), "--model", model, *flags])


def sweep(photo: Path, out: Path, model: str, *flags: str) -> Path:
    """The one file that a sweep of three strengths wrote."""
    assert main(["sweep", str(photo), *SNOW, "--out", str(out), "--model", model, "-n", "3", "--quiet", *flags]) == 0
    [path] = [path for path in out.iterdir() if path.name != "manifest.jsonl"]
    return path


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
    assert read_metadata(sweep(photo, tmp_path / "gif", model))["warning"] == warning
    listed = json.loads((tmp_path / "gif" / "manifest.jsonl").read_text())
    assert listed["warning"] == warning and listed["size"] == [240, 160] and listed["speed"] == "exact"
    assert "warning" not in read_metadata(sweep(photo, tmp_path / "zip", model, "--format", "zip"))


def test_quality_makes_smaller_files(photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A flag that is taken and forgotten."""
    for name, flags in {"a.jpg": [], "b.jpg": ["--quality", "30"], "a.webp": [], "b.webp": ["--quality", "30"]}.items():
        assert edit(photo, tmp_path / name, model, "--quiet", *flags) == 0
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.jpg", "b.jpg", "a.webp", "b.webp")}
    assert sizes["b.jpg"] < sizes["a.jpg"] and sizes["b.webp"] < sizes["a.webp"]
    assert edit(photo, tmp_path / "a.png", model, "--quality", "30") == 2
    assert ".png keeps every pixel" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["zip", "png"])
def test_a_sweep_at_full_size(format: str, photo: Path, tmp_path: Path, model: str) -> None:
    """Every picture of it is what `edit` writes, and the first the photograph itself."""
    edit(photo, tmp_path / "edit.png", model, "--quiet")
    full = sweep(photo, tmp_path / "full", model, "--format", format, "--full-size")
    small = sweep(photo, tmp_path / "small", model, "--format", format)
    assert read_metadata(full)["size"] == [240, 160] and read_metadata(small)["size"] != [240, 160]
    assert read_metadata(small)["size"] == read_metadata(small)["edited_at"] == read_metadata(full)["edited_at"]
    if format == "zip":
        with zipfile.ZipFile(full) as archive:
            pictures = [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()[:-1]]
    else:
        with Image.open(full) as strip:
            pictures = [strip.crop((240 * k, 0, 240 * k + 240, 160)) for k in range(3)]
    with Image.open(photo) as first, Image.open(tmp_path / "edit.png") as last:
        assert (np.asarray(pictures[0]) == np.asarray(first)).all()
        assert (np.asarray(pictures[-1]) == np.asarray(last)).all()


@pytest.mark.parametrize(
    ("flags", "size"), [([], [240, 160]), (["--width", "60"], [60, 40]), (["--width", "900"], [240, 160])]
)
@pytest.mark.parametrize("format", ["gif", "webp", "mp4"])
def test_the_width_of_an_animation(
    format: str, flags: list[str], size: list[int], photo: Path, tmp_path: Path, model: str
) -> None:
    """Animations showed the model's small frames; enlarged beyond the photograph, they would only be larger files."""
    path = sweep(photo, tmp_path / "out", model, "--format", format, *flags)
    assert read_metadata(path)["size"] == size
    if format != "mp4":
        with Image.open(path) as animation:
            assert list(animation.size) == size and animation.n_frames == 3


def test_a_large_photographs_animation_is_scaled_down(tmp_path: Path, model: str) -> None:
    """A GIF of 24 megapixels a frame is of no use to anybody."""
    tiny_image(48, 32, seed=1).resize((1500, 1000)).save(tmp_path / "a.png")
    assert read_metadata(sweep(tmp_path / "a.png", tmp_path / "out", model))["size"] == [1024, 683]


@pytest.mark.parametrize("flags", [["--full-size"], ["--width", "64", "--format", "zip"]])
def test_flags_that_do_not_fit_the_format(flags: list[str], photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A flag that a format cannot obey is not ignored."""
    assert main(["sweep", str(photo), *SNOW, "--out", str(tmp_path / "out"), "--model", model, *flags]) == 2
    assert flags[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_transparent_pictures(tmp_path: Path, model: str) -> None:
    """A cut-out lost its transparency, or showed whatever colour was under it."""
    picture = tiny_image(120, 80, seed=3).resize((120, 80)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((120, 80)))
    picture.save(tmp_path / "a.png")
    assert edit(tmp_path / "a.png", tmp_path / "out.png", model, "--quiet") == 0
    with Image.open(tmp_path / "out.png") as edited:
        assert edited.mode == "RGBA"
        assert (np.asarray(edited.getchannel("A")) == np.asarray(picture.getchannel("A"))).all()
    with Image.open(sweep(tmp_path / "a.png", tmp_path / "out", model, "--format", "webp", "--lossless")) as animation:
        assert np.asarray(animation.convert("RGB"))[0, 0].min() >= 250  # nothing but white shows through


def test_phone_photographs(tmp_path: Path, model: str) -> None:
    """What a telephone writes was refused."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(tiny_image(96, 64, seed=1).resize((96, 64))).save(tmp_path / "IMG_0001.HEIC")
    assert edit(tmp_path / "IMG_0001.HEIC", tmp_path / "out.jpg", model, "--quiet") == 0
    assert read_metadata(sweep(tmp_path / "IMG_0001.HEIC", tmp_path / "out", model))["source"] == "IMG_0001.HEIC"
