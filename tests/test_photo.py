"""Photographs as phones and cameras make them: HEIC, raw files, transparency, size, and what goes wrong."""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from kontext_slider.batch import IMAGE_SUFFIXES, find_images
from kontext_slider.errors import UnreadableImage
from kontext_slider.images import MAX_PIXELS, Photo, read_image, read_photo
from kontext_slider.photo import limits

DATA = Path(__file__).parent / "data"
DNG_VERSION = (50706, "B", 4, (1, 4, 0, 0), True)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    read_photo(Image.new("RGB", (8, 8)))
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colours(count: int = 4) -> Image.Image:
    """(64 count) x 64 pixels in blocks of red, green, blue, white."""
    blocks = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)[:count]
    return Image.fromarray(blocks.repeat(64, axis=0)[None].repeat(64, axis=0))


def dng(orientation: int = 1) -> bytes:
    """A raw photograph of 96 x 64 pixels, orange."""
    mosaic = np.zeros((64, 96), np.uint16)
    mosaic[0::2, 0::2], mosaic[0::2, 1::2], mosaic[1::2, 0::2], mosaic[1::2, 1::2] = 30_000, 15_000, 15_000, 4_000
    srgb = (3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0572)  # XYZ to the camera's RGB
    tags = [
        DNG_VERSION,
        (50708, "s", 0, "Tiny", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50721, "2i", 9, tuple(part for value in srgb for part in (round(value * 10_000), 10_000)), True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
        (274, "H", 1, orientation, True),
        (271, "s", 0, "Maker", True),
    ]
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(mosaic, photometric=32803, subfiletype=0, extratags=tags, metadata=None)
    return stream.getvalue()


def thumbnail_first(version: bool) -> bytes:
    """A TIFF whose first image is a thumbnail, as raw files of most makers are."""
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        tags = [DNG_VERSION] if version else []
        writer.write(np.zeros((12, 16, 3), "u1"), photometric="rgb", subifds=1, subfiletype=1, extratags=tags)
        writer.write(np.zeros((300, 400), "u2"), photometric="minisblack", subfiletype=0)
    return stream.getvalue()


def test_a_photo_of_a_phone() -> None:
    """HEIC, what every iPhone saves, was refused."""
    photo = read_photo(DATA / "IMG_0001.HEIC")
    assert photo.image.size == (451, 300) and photo.image.mode == "RGB" and photo.name == "IMG_0001.HEIC"
    assert photo.icc_profile and abs(np.asarray(photo.image).mean() - 115) < 3


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_heif_is_turned_once(kind: str, orientation: int) -> None:
    """The decoder turns HEIC itself; turning by EXIF as well laid portraits on their side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encoded(colours(), kind, exif=exif.tobytes(), quality=90))
    angle = {3: 180, 6: -90, 8: 90}[orientation]
    expected = np.asarray(colours().rotate(angle, expand=True), int)
    assert photo.image.size == expected.shape[1::-1]
    assert np.abs(np.asarray(photo.image, int) - expected).mean() < 12
    np.testing.assert_array_equal(read_image(photo.image), photo.image)


def test_ten_bit_heic() -> None:
    """Photographs of newer phones have 10 bits."""
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = np.asarray(colours()).astype(np.uint16) * 257
    stream = BytesIO()
    pillow_heif.from_bytes("RGB;16", (256, 64), deep.tobytes()).save(stream, quality=-1)
    assert pillow_heif.open_heif(stream.getvalue()).info["bit_depth"] == 10
    assert np.abs(np.asarray(read_image(stream.getvalue()), int) - np.asarray(colours())).mean() < 3


def test_only_the_primary_image_is_read() -> None:
    """A burst or a file with several photographs showed another one than the phone."""
    pillow_heif = pytest.importorskip("pillow_heif")
    several = pillow_heif.from_pillow(Image.new("RGB", (64, 64), "red"))
    several.add_from_pillow(Image.new("RGB", (128, 64), "lime"))
    stream = BytesIO()
    several.save(stream, primary_index=1, quality=90)
    assert read_photo(stream.getvalue()).image.size == (128, 64)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_kept(kind: str) -> None:
    """A cut-out lost its transparent ground without a word."""
    image = colours().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (64, 1))))
    photo = read_photo(encoded(image, kind, lossless=True, exact=True))
    assert photo.image.mode == "RGBA"
    np.testing.assert_array_equal(photo.image, image)
    assert np.abs(np.asarray(photo.on_white(), int)[:, 0] - 255).max() == 0
    np.testing.assert_array_equal(read_image(image), photo.on_white())


def test_an_alpha_channel_that_hides_nothing_is_left_out() -> None:
    """A screenshot with a full alpha channel could not become a JPEG as it is."""
    photo = read_photo(encoded(colours().convert("RGBA"), "PNG"))
    assert photo.image.mode == "RGB"
    np.testing.assert_array_equal(photo.image, colours())


@pytest.mark.parametrize("source", ["array", "image"])
def test_arrays_and_images_with_alpha(source: str) -> None:
    """Only files kept their alpha."""
    pixels = np.full((8, 8, 4), 100, np.uint8)
    photo = read_photo(pixels if source == "array" else Image.fromarray(pixels))
    np.testing.assert_array_equal(photo.image, pixels)
    assert photo == Photo(photo.image)


def test_what_the_camera_says_is_at_hand(tmp_path: Path) -> None:
    """Date and camera were lost on the way in."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        path = tmp_path / f"a photo.{kind.lower()}"
        path.write_bytes(encoded(colours(), kind, exif=exif))
        photo = read_photo(path)
        assert photo.exif and b"Maker" in photo.exif and photo.name == path.name, kind


def test_100_megapixels_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras of 100 megapixels were refused at 89; Pillow's own limit, a global, is not to be changed for that."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_photo(encoded(colours(), "PNG")).image.size == (256, 64)
    assert Image.MAX_IMAGE_PIXELS == 1000
    assert max(11_656 * 8742, 12_000 * 9000) < MAX_PIXELS  # Hasselblad X2D, phones of 108 megapixels


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP"])
def test_larger_ones_are_refused_before_they_are_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few bytes that claims to be as large as a wall filled the memory."""
    data = encoded(colours(), kind)
    monkeypatch.setattr(limits, "MAX_PIXELS", 10_000)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="megapixels"):
        read_photo(data)


@pytest.mark.parametrize(
    ("error", "words"),
    [(MemoryError(), "needs more memory than is free"), (OSError(), "is damaged or incomplete. Save")],
)
def test_sentences_about_what_goes_wrong_while_decoding(error, words, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without enough memory called a good photograph "damaged or incomplete ()"."""

    def fail(self):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(UnreadableImage, match=words) as caught:
        read_photo(encoded(colours(), "PNG"))
    assert "()" not in str(caught.value)


@pytest.mark.parametrize(("orientation", "size"), [(1, (96, 64)), (6, (64, 96))])
def test_a_raw_photograph_is_developed(orientation: int, size: tuple[int, int]) -> None:
    """Its thumbnail of 160 pixels was edited without a word."""
    pytest.importorskip("rawpy")
    photo = read_photo(dng(orientation))
    red, green, blue = np.asarray(photo.image)[8:-8, 8:-8].reshape(-1, 3).mean(axis=0)
    assert photo.image.size == size and red > green + 30 and green > blue + 30
    assert photo.exif and b"Maker" in photo.exif


def test_a_raw_photograph_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of size was for pictures only."""
    pytest.importorskip("rawpy")
    monkeypatch.setattr(limits, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(UnreadableImage, match="megapixels"):
        read_photo(dng())


def test_a_raw_photograph_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """LibRaw takes four times the memory of a JPEG: raw photographs were outside of the limit."""
    pytest.importorskip("rawpy")
    monkeypatch.setattr(limits, "MAX_DECODED", 14 * 96 * 64)
    with pytest.raises(UnreadableImage, match="raw photograph of .* GB of memory to develop. Export it"):
        read_photo(dng())


@pytest.mark.parametrize("content", [b"", b"{}", b"GIF", b"P5 hello", b"hello, this is a text"])
def test_a_text_that_is_called_a_picture_is_told_in_our_words(content: bytes) -> None:
    """Its sentence quoted a line of a library: "unpack_from requires a buffer of at least 4 bytes"."""
    with pytest.raises(UnreadableImage) as caught:
        read_photo(content)
    assert not re.search("unpack|literal|buffer|index|list", str(caught.value))


RAW_FILES = {
    "a.dng": thumbnail_first(True),
    "a.nef": thumbnail_first(False),
    "a.cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(64),
    "a.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64),
    "a.raf": b"FUJIFILMCCD-RAW 0201" + bytes(64),
    "a.orf": b"IIRO\x08\0\0\0" + bytes(64),
    "a.rw2": b"IIU\0\x18\0\0\0" + bytes(64),
    "a.pef": encoded(Image.new("RGB", (16, 12)), "TIFF"),
    "cut.dng": dng()[:200],
}


@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_files_that_cannot_be_developed_end_in_a_sentence(name: str, tmp_path: Path) -> None:
    """A thumbnail, or LibRaw's traceback, instead of a sentence."""
    pytest.importorskip("rawpy")
    (tmp_path / name).write_bytes(RAW_FILES[name])
    if name == "a.nef":  # LibRaw takes the large image of this one
        assert read_photo(tmp_path / name).image.size == (400, 300)
        return
    with pytest.raises(UnreadableImage, match=rf"{name}' looks like a raw photograph but cannot be .* Export it"):
        read_photo(tmp_path / name)


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.cr3"])
def test_without_rawpy_a_sentence_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raw photograph needs a package that is not there by default."""
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(UnreadableImage, match=r"raw photograph, which .* pip install 'kontext-slider\[raw\]'"):
        read_photo(RAW_FILES[name])


def test_an_opened_thumbnail_of_a_raw_photograph_is_refused() -> None:
    """Image.open of a raw file gives its thumbnail, which was edited in its place."""
    with (
        Image.open(BytesIO(thumbnail_first(True))) as image,
        pytest.raises(UnreadableImage, match="only the thumbnail"),
    ):
        read_photo(image)


def test_a_tiff_of_several_pages_is_no_raw_photograph() -> None:
    """Telling raw files from TIFF is not to cost scans and exports."""
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert read_image(data).getpixel((3, 3)) == (255, 0, 0)
    stream = BytesIO()
    with tifffile.TiffWriter(stream, byteorder=">") as writer:
        for subfiletype in (0, 1):  # a pyramid: the photograph, then a smaller copy
            writer.write(np.full((16 >> subfiletype,) * 2 + (3,), 99, "u1"), photometric="rgb", subfiletype=subfiletype)
    assert read_image(stream.getvalue()).size == (16, 16)


def test_folders_take_what_can_be_read(tmp_path: Path) -> None:
    """A folder of phone or raw photographs was passed over in silence."""
    names = ["a.HEIC", "b.heif", "c.hif", "d.dng", "e.nef", "f.cr3", "g.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found, problems = find_images([str(tmp_path)])
    assert [path.name for path in found] == names and not problems
    assert ".jxl" not in IMAGE_SUFFIXES


def test_what_a_file_would_cost_is_compared_with_a_budget_before_it_is_decoded() -> None:
    """A WebP of 34 bytes took 2.1 GB."""
    webp = bytes.fromhex("524946461a000000574542505650384c0d0000002ffeff4515071011118888fe0700")
    with pytest.raises(UnreadableImage, match=r"WEBP of 16383 x 5400 pixels, which takes 1\.9 GB .* 43 megapixels"):
        read_photo(webp)


@pytest.mark.parametrize(
    ("kind", "mode", "num_bytes"), [("JPEG", "RGB", 10**8), ("TIFF", "RGB", 600 * 10**6), (None, "RGB", 0)]
)
def test_photographs_of_100_megapixels_fit_the_budget(kind: str, mode: str, num_bytes: int) -> None:
    """A budget that keeps bombs out may keep cameras out as well, and did so with images that are in memory."""
    picture = Image.new(mode, (1, 1))
    picture.format, picture._size = kind, (11_656, 8742)
    limits.check_cost(picture, num_bytes, "a photograph", is_turned=kind == "JPEG")
    with pytest.raises(UnreadableImage, match="GB of memory"):
        limits.check_cost(picture, 900 * 10**6, "a photograph", is_turned=True)


def test_an_image_in_memory_that_costs_too_much_is_called_by_its_mode() -> None:
    """It was "None of 12000 x 9000 pixels"."""
    picture = Image.new("RGBA", (1, 1))
    picture._size = (12_000, 9000)
    with pytest.raises(UnreadableImage, match=r"The image is RGBA of 12000 x 9000 pixels, which takes 1\.0 GB"):
        limits.check_cost(picture, 0, "The image", is_turned=False)


def test_one_picture_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three small files at once took 6.4 GB."""
    inside, most = [], []
    load = ImageFile.ImageFile.load

    def count(self: ImageFile.ImageFile) -> object:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        loaded = load(self)
        inside.pop()
        return loaded

    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", count)
    data = encoded(colours(), "JPEG")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_photo, [data] * 4))
    assert max(most) == 1


def test_a_photograph_keeps_no_decoder_and_no_file() -> None:
    """A WebP's decoder has two canvases, so an open edit took three times the photograph's memory."""
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert type(read_photo(encoded(colours(), kind)).image) is Image.Image


@pytest.mark.parametrize("words", ["out of memory error when reading image file", "Memory allocation failed"])
def test_decoders_that_say_in_words_that_memory_ran_short(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good photograph was called damaged where the machine was too small."""
    monkeypatch.setattr(
        "PIL.PngImagePlugin.PngImageFile.load_prepare", lambda self: (_ for _ in ()).throw(OSError(words))
    )
    with pytest.raises(UnreadableImage, match="more memory than is free"):
        read_photo(encoded(colours(), "PNG"))
