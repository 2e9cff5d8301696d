"""Single pictures are written, read back, and compared with what a person would look for in them."""

from __future__ import annotations

import json
import struct
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from kontext_slider.edit import EarlierEdit
from kontext_slider.errors import InvalidInput
from kontext_slider.export import read_metadata
from kontext_slider.images import Photo, read_image, read_photo
from kontext_slider.photo.colour import SRGB
from kontext_slider.picture_file import picture_name, save_picture
from tests.profiles import matrix_profile

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


def test_the_name_of_a_picture_tells_all_its_edits() -> None:
    """Two chains that end in the same words were saved under one name; a long chain had no room for its last edit."""
    night, long = EarlierEdit({"instruction": "make it night"}, 0.6), EarlierEdit({"instruction": "x" * 400}, 1.0)
    assert (
        picture_name("cat.jpg", "Make it snow!", 0.3, "jpg", [night]) == "cat-make-it-night-0.60-make-it-snow-0.30.jpg"
    )
    name = picture_name("cat.jpg", "make it snow", 0.3, "jpg", [night, *[long] * 30])
    assert name.endswith("-make-it-snow-0.30.jpg") and len(name) <= 200


def photo(tmp_path: Path, mode: str = "RGB", **options) -> Photo:
    """A photograph as a phone saves it: camera, place, thumbnail, private notes, orientation, XMP and IPTC."""
    path = tmp_path / "photo.jpg"
    options = {"exif": exif_with_everything(), "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"} | options
    drawn().convert(mode).save(path, quality=95, **options)
    return read_photo(path)


def exif_with_everything() -> bytes:
    """Big-endian, as most cameras write it, with a thumbnail in a second directory."""

    def directory(entries: list[tuple[int, int, int, bytes]], at: int, following: int = 0) -> bytes:
        table, values = struct.pack(">H", len(entries)), b""
        start = at + 6 + 12 * len(entries)
        for tag, kind, count, value in entries:
            held = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", start + len(values))
            table += struct.pack(">HHI", tag, kind, count) + held
            values += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
        return table + struct.pack(">I", following) + values

    def text(tag: int, words: str) -> tuple[int, int, int, bytes]:
        value = words.encode() + b"\0"
        return tag, 2, len(value), value

    def place(tag: int, at: int) -> tuple[int, int, int, bytes]:
        return tag, 4, 1, struct.pack(">I", at)

    orientation = (0x0112, 3, 1, struct.pack(">H", 1))
    size = [(0xA002, 4, 1, struct.pack(">I", 4000)), (0xA003, 4, 1, struct.pack(">I", 3000))]
    notes = (0x927C, 7, 12, b"secret notes")
    lens = [text(0x9003, "2024:05:01 12:00:00"), notes, *size, text(0xA434, "Lens 50 mm ƒ/1.8"), (0x9204, 10, 1, EV)]
    gps = [text(0x0001, "N"), (0x0002, 5, 3, struct.pack(">6I", 48, 1, 12, 1, 34, 1))]
    thumbnail = [(0x0103, 3, 1, struct.pack(">H", 6)), place(0x0201, 60), (0x0202, 4, 1, struct.pack(">I", 12))]
    words = [text(0x010E, "Our cat — Зима"), text(0x010F, "Maker"), orientation, text(0x8298, "© José")]

    def first(*at: int) -> bytes:
        return directory([*words, place(0x8769, at[0]), place(0x8825, at[1])], 8, at[2])

    offsets = [8 + len(first(0, 0, 0))]
    offsets.append(offsets[0] + len(directory(lens, 0)))
    offsets.append(offsets[1] + len(directory(gps, 0)))
    parts = [directory(lens, offsets[0]), directory(gps, offsets[1]), directory(thumbnail, offsets[2])]
    return b"Exif\0\0MM\0*\0\0\0\x08" + first(*offsets) + b"".join(parts)


EV = struct.pack(">2i", -2, 3)  # an exposure of -2/3


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_camera_date_and_copyright_stay_and_the_place_goes(tmp_path: Path, suffix: str) -> None:
    """A saved picture lost its date and camera, or told where its owner lives."""
    source, path = photo(tmp_path), tmp_path / f"out.{suffix}"
    sentence = save_picture(drawn((80, 60)), path, RECIPE, source)
    assert sentence == "Left out: the place (GPS), the embedded thumbnail, the camera's private notes and XMP."
    assert read_metadata(path) == RECIPE
    data = path.read_bytes()
    assert b"secret" not in data and b"Our cat \xe2\x80\x94 " in data and "© José".encode() in data
    with Image.open(path) as picture:
        exif = picture.getexif()
        camera = exif.get_ifd(0x8769)
        assert exif[0x010F] == "Maker" and 0x0112 not in exif and not exif.get_ifd(0x8825) and not exif.get_ifd(IFD1)
        assert camera[0x9003] == "2024:05:01 12:00:00" and camera[0x9204] == pytest.approx(-2 / 3)
        assert (camera[0xA002], camera[0xA003], camera[0xA001]) == (80, 60, 1)


IFD1 = 1  # Pillow's name for the directory of the thumbnail


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_the_place_stays_when_asked(tmp_path: Path, suffix: str) -> None:
    """Who keeps an archive by place could not keep it."""
    path = tmp_path / f"out.{suffix}"
    assert "GPS" not in save_picture(drawn(), path, RECIPE, photo(tmp_path), keep_location=True)
    with Image.open(path) as picture:
        assert picture.getexif().get_ifd(0x8825)[2] == (48, 12, 34)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_broken_exif_never_breaks_saving(tmp_path: Path, suffix: str) -> None:
    """One byte of a camera's block kept its owner from saving a picture that took minutes to make."""
    whole = exif_with_everything()
    random = np.random.default_rng(0)
    blocks = [
        b"",
        b"Exif\0\0",
        b"garbage",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        *(whole[:end] for end in range(8, 400, 16)),
    ]
    for _ in range(40):
        block = np.frombuffer(whole, np.uint8).copy()
        block[random.integers(14, len(block), 12)] = random.integers(0, 256, 12)
        blocks.append(block.tobytes())
    for block in blocks:
        path = tmp_path / f"out.{suffix}"
        save_picture(drawn(), path, RECIPE, Photo(drawn(), exif=block))
        assert read_metadata(path) == RECIPE


def test_a_block_too_large_for_jpeg_is_left_out(tmp_path: Path) -> None:
    """Pillow's ValueError instead of a picture."""
    exif = Image.Exif()
    exif[0x9C9C] = bytes(80_000)
    source = Photo(drawn(), exif=exif.tobytes())
    assert save_picture(drawn(), tmp_path / "a.png", RECIPE, source) == ""
    assert "too large for JPEG" in save_picture(drawn(), tmp_path / "a.jpg", RECIPE, source)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_pictures_are_tagged_as_srgb(tmp_path: Path, suffix: str) -> None:
    """On a wide screen a picture without a tag is shown too colourful."""
    path = tmp_path / f"out.{suffix}"
    save_picture(drawn(), path, RECIPE)
    with Image.open(path) as picture:
        assert "srgb" in picture.info if suffix == "png" else picture.info["icc_profile"] == SRGB


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_photograph_keeps_its_own_profile(tmp_path: Path, suffix: str, mode: str) -> None:
    """A photograph in Display P3 came back in sRGB, which an archive in P3 does not want."""
    profile = matrix_profile(12, None, "Display P3")
    source, path = photo(tmp_path, icc_profile=profile), tmp_path / f"out.{suffix}"
    picture = source.image.convert(mode)
    assert "sRGB" not in save_picture(picture, path, RECIPE, source, keep_profile=True)
    with Image.open(path) as saved:
        assert saved.info["icc_profile"] == profile and "srgb" not in saved.info
        assert saved.getexif().get_ifd(0x8769)[0xA001] == 0xFFFF
        assert saved.mode == (mode if suffix == "png" else "RGB")  # WebP leaves out an alpha channel that hides nothing
    assert psnr(read_image(path), source.image) > 35
    save_picture(picture, path, RECIPE, source)
    assert psnr(read_image(path), source.image) > 35


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_profiles_of_other_kinds_give_srgb_and_a_sentence(tmp_path: Path, mode: str) -> None:
    """A profile for ink was put into an RGB file."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    source, path = replace(photo(tmp_path, mode, exif=b""), icc_profile=lab), tmp_path / "out.png"
    assert "Saved as sRGB: the photograph's profile is not" in save_picture(
        drawn(), path, {}, source, keep_profile=True
    )
    source = replace(source, icc_profile=None)
    assert "Saved as sRGB: the photograph has no other" in save_picture(drawn(), path, {}, source, keep_profile=True)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_transparency_is_kept_where_the_format_can(tmp_path: Path, suffix: str) -> None:
    """A cut-out came out on black."""
    cutout = drawn().convert("RGBA")
    cutout.putalpha(Image.linear_gradient("L").resize(cutout.size))
    path = tmp_path / f"out.{suffix}"
    save_picture(cutout, path, RECIPE)
    kept = read_photo(path).image
    assert kept.mode == ("RGB" if suffix == "jpg" else "RGBA")
    expected = Photo(cutout).on_white() if suffix == "jpg" else cutout
    assert psnr(kept, expected) > 35


def test_quality(tmp_path: Path) -> None:
    """One quality for all: too large to send, or too coarse to print."""
    noisy = Image.effect_noise((256, 256), 40).convert("RGB")
    sizes = []
    for quality in (30, 80, None):
        for suffix in ("jpg", "webp"):
            save_picture(noisy, tmp_path / f"{quality}.{suffix}", RECIPE, quality=quality)
        sizes.append([(tmp_path / f"{quality}.{suffix}").stat().st_size for suffix in ("jpg", "webp")])
    assert sizes[0] < sizes[1] < sizes[2] and sizes[0][1] < sizes[1][1] < sizes[2][1]
    with Image.open(tmp_path / "None.jpg") as picture:
        assert {layer[1:3] for layer in picture.layer} == {(1, 1)}  # full colour resolution
    for quality in (0, 101, 2.5, True, "95"):
        with pytest.raises(InvalidInput, match="The quality must be a whole number from 1 to 100"):
            save_picture(noisy, tmp_path / "x.jpg", RECIPE, quality=quality)
    assert not (tmp_path / "x.jpg").exists()


def test_a_picture_larger_than_the_format_ends_in_a_sentence(tmp_path: Path) -> None:
    """libwebp's "encoding error 5" after minutes of work."""
    with pytest.raises(InvalidInput, match="16384 x 8 pixels, but a .webp file holds at most 16383"):
        save_picture(Image.new("RGB", (16_384, 8)), tmp_path / "x.webp", RECIPE)


def test_what_a_picture_object_carries_is_not_written(tmp_path: Path) -> None:
    """Pillow writes the comment and profile that an image object brings from another file."""
    carrier = drawn()
    carrier.info |= {"comment": b"at home", "icc_profile": b"old", "xmp": b"old", "exif": exif_with_everything()}
    for suffix in ("png", "webp", "jpg"):
        save_picture(carrier, tmp_path / f"a.{suffix}", RECIPE)
        data = (tmp_path / f"a.{suffix}").read_bytes()
        assert b"at home" not in data and b"Maker" not in data
    assert carrier.info["comment"] == b"at home"


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_the_same_picture_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    """A time stamp makes equal results look different to every tool that compares them."""
    for name in "ab":
        save_picture(drawn(), tmp_path / f"{name}.{suffix}", RECIPE, photo(tmp_path))
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["webp", "jpg"])
def test_recipes_of_earlier_versions_are_still_read(tmp_path: Path, suffix: str) -> None:
    """They stood in the description of the EXIF block."""
    exif = Image.Exif()
    exif[0x010E] = json.dumps(RECIPE)
    drawn().save(tmp_path / f"old.{suffix}", exif=exif)
    assert read_metadata(tmp_path / f"old.{suffix}") == RECIPE


@pytest.mark.parametrize("packet", [b"<broken", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"])
def test_xmp_of_other_programs_is_no_recipe(tmp_path: Path, packet: bytes) -> None:
    """A traceback of an XML parser."""
    drawn().save(tmp_path / "other.jpg", xmp=packet)
    with pytest.raises(InvalidInput, match="no file of kontext-slider"):
        read_metadata(tmp_path / "other.jpg")


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("../../etc/passwd.png", "passwd-"),
        ("C:\\photos\\cat.jpg", "cat-"),
        (".hidden.jpg", "hidden-"),
        ("", "picture-"),
        ("..", "picture-"),
        ("-rf.jpg", "rf-"),
        ("con.jpg", "_con-"),
        ("LPT1.tar.gz", "_LPT1.tar-"),
        ('a<b>c:"d|e?f*.jpg', "a_b_c__d_e_f_-"),
        ("tab\tbell\a\u202e.jpg", "tabbell-"),
        ("\udce9t\udce9.jpg", "_t_-"),
        ("cafe\u0301.jpg", "café-"),
    ],
)
def test_names_are_safe_everywhere(source: str, start: str) -> None:
    """A name from a browser or another system that leads out of the folder, or that Windows cannot open."""
    assert picture_name(source, "fog", 0.5, "png") == f"{start}fog-0.50.png"


@pytest.mark.parametrize("source", ["北" * 81 + ".jpg", "x" * 255, "🐈" * 60])
@pytest.mark.parametrize("instruction", ["雪を降らせて" * 80, "snow " * 100, "बर्फ़ " * 90, "!?", ""])
def test_names_are_short_in_bytes(source: str, instruction: str, tmp_path: Path) -> None:
    """81 Chinese letters are 243 bytes: "File name too long", and the sweep ended with a traceback."""
    name = picture_name(source, instruction, 1, "webp")
    assert len(name.encode()) <= 200 and name.endswith("-1.00.webp")
    (tmp_path / name).touch()


def test_letters_of_every_script_stay_whole() -> None:
    """Vowel signs were taken for punctuation, and words fell to pieces."""
    assert picture_name("a.png", "बर्फ़ गिराओ", 0.25, "png") == f"a-{unicodedata.normalize('NFC', 'बर्फ़-गिराओ')}-0.25.png"


def test_large_pictures_say_how_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the recipe of a result of 100 megapixels ended in Pillow's warning of a decompression bomb."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for suffix in ("png", "webp", "jpg"):
        save_picture(drawn(), tmp_path / f"a.{suffix}", RECIPE)
        assert read_metadata(tmp_path / f"a.{suffix}") == RECIPE
