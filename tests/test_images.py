"""Every kind of picture is drawn on the spot, read, and compared with what a person sees in a viewer."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from kontext_slider.errors import InvalidInput, UnreadableImage
from kontext_slider.images import MAX_PIXELS, read_image, working_image, working_size

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def ramp(dtype=np.uint8) -> np.ndarray:
    """(2, 256) grey from 0 to the top of `dtype`."""
    top = np.iinfo(dtype).max
    return np.tile(np.linspace(0, top, 256).round().astype(dtype), (2, 1))


def grey(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    assert image.mode == "RGB" and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def close(image: Image.Image, colour: tuple[int, int, int], within: int = 1) -> bool:
    return np.abs(np.asarray(image, dtype=int) - colour).max() <= within


# A 3 x 2 picture with four telling corners, as a person sees it.
SEEN = np.array([[[255, 0, 0], [0, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
STORED = {  # EXIF orientation -> the pixels as the camera stored them
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.transpose(1, 0, 2),
    6: SEEN[:, ::-1].transpose(1, 0, 2),
    7: SEEN[::-1, ::-1].transpose(1, 0, 2),
    8: SEEN[::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_and_mirroring_is_applied(orientation):
    """A phone photo lies on its side, or a selfie is mirrored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    data = encoded(stored, "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(data), SEEN)
    np.testing.assert_array_equal(read_image(Image.open(BytesIO(data))), SEEN)


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_read_twice_is_not_turned_twice(orientation):
    """The app reads an upload, and so does the engine that it hands it to: every phone photo lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    once = read_image(encoded(stored, "PNG", exif=exif, icc_profile=profile_with_swapped_red_and_green()))
    np.testing.assert_array_equal(read_image(once), once)
    assert not once.info


def test_a_broken_exif_block_does_not_hide_good_pixels():
    """A picture with garbage where the camera data should be was refused, or read with a warning."""
    data = encoded(Image.new("RGB", (8, 8), RED), "PNG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01")
    assert close(read_image(data), RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_transparency_is_laid_over_white(mode):
    """The hidden colour behind transparent pixels shows as black or garbage."""
    rgba = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    rgba.paste((0, 0, 0, 255), (0, 0, 2, 2))
    picture = rgba.convert("LA") if mode in ("LA", "La") else rgba
    expected = grey(read_image(picture.convert(mode)))
    np.testing.assert_array_equal(expected[0], [0, 0, 255, 255])


def test_half_transparent_is_mixed_with_white():
    """Soft edges of a cut-out turn hard or dark."""
    assert close(read_image(Image.new("RGBA", (2, 2), (0, 0, 0, 128))), (127, 127, 127))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_transparency(kind):
    """A logo with one transparent palette colour comes out with that colour as background."""
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 2, 4))
    pixels = np.asarray(read_image(encoded(image, kind, transparency=1)))
    assert tuple(pixels[0, 0]) == RED and tuple(pixels[0, 3]) == WHITE
    assert tuple(np.asarray(read_image(encoded(image, kind)))[0, 3]) == GREEN


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_single_transparent_colour_of_png(mode):
    """The tRNS chunk of a picture without alpha channel is overlooked."""
    image = Image.new(mode, (2, 2), "black")
    assert close(read_image(encoded(image, "PNG", transparency=0 if mode == "L" else (0, 0, 0))), WHITE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_range(kind):
    """Pillow's own conversion clips 16-bit grey at 255: nearly all of it white."""
    data = encoded(Image.fromarray(ramp(np.uint16)), kind)
    np.testing.assert_array_equal(grey(read_image(data)), ramp())


def test_big_endian_16_bit_grey():
    """Bytes in the other order turn a ramp into noise."""
    image = Image.frombytes("I;16B", (256, 2), ramp(np.uint16).astype(">u2").tobytes())
    np.testing.assert_array_equal(grey(read_image(image)), ramp())


@pytest.mark.parametrize(("mode", "factor"), [("I", 1), ("I", 257), ("F", 1), ("F", 1 / 255), ("F", 257)])
def test_wide_modes_are_taken_by_their_values(mode, factor):
    """8-bit values held in a 32-bit mode come out black, 16-bit ones white."""
    values = (ramp().astype(float) * factor).astype(np.int32 if mode == "I" else np.float32)
    np.testing.assert_array_equal(grey(read_image(Image.fromarray(values))), ramp())


def test_cmyk_also_as_jpeg():
    """CMYK comes out inverted: JPEGs of Adobe programs store it that way."""
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert close(read_image(cyan), (0, 255, 255))
    assert close(read_image(encoded(cyan, "JPEG", quality=100)), (0, 255, 255), within=4)
    assert close(read_image(encoded(cyan, "TIFF")), (0, 255, 255))


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode):
    """A mode nobody thought of reaches the model with the wrong number of channels."""
    assert close(read_image(Image.new("RGB", (4, 4), "white").convert(mode)), WHITE)


def test_lab():
    """Pillow has no direct way from LAB to RGB and raises."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.new("RGB", (4, 4), (200, 30, 60)), srgb, lab, outputMode="LAB")
    assert close(read_image(image), (200, 30, 60), within=3)


def profile_with_swapped_red_and_green() -> bytes:
    """The sRGB profile with the primaries of red and green exchanged: seen through it, red is green."""
    data = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"x\0x\0x\0x")
    )
    for offset in range(132, 132 + 12 * struct.unpack_from(">I", data, 128)[0], 12):
        swapped = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(bytes(data[offset : offset + 4]))
        data[offset : offset + 4] = swapped or data[offset : offset + 4]
    return bytes(data).replace(b"sRGB", b"xxxx")


def test_an_embedded_profile_is_converted_to_srgb():
    """Photos in a wide colour space look dull when their profile is dropped."""
    data = encoded(Image.new("RGB", (4, 4), RED), "PNG", icc_profile=profile_with_swapped_red_and_green())
    assert close(read_image(data), GREEN, within=3)
    with_alpha = Image.new("RGBA", (4, 4), (*RED, 128))
    data = encoded(with_alpha, "PNG", icc_profile=profile_with_swapped_red_and_green())
    assert close(read_image(data), (127, 255, 127), within=3)


def test_an_srgb_profile_changes_no_pixel():
    """Converting sRGB to sRGB rounds."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(noise), "PNG", icc_profile=profile)), noise)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("profile", [b"not a profile", profile_with_swapped_red_and_green()[:200]])
def test_a_broken_profile_is_left_out(profile, mode):
    """One bad tag in a file keeps its owner from editing it."""
    assert close(read_image(encoded(Image.new(mode, (4, 4), "white"), "PNG", icc_profile=profile)), WHITE)


def test_a_profile_of_another_colour_space_is_left_out():
    """A grey picture that carries an RGB profile is refused."""
    data = encoded(Image.new("L", (4, 4), 77), "PNG", icc_profile=profile_with_swapped_red_and_green())
    assert close(read_image(data), (77, 77, 77))


@pytest.mark.parametrize("shape", [(2, 256), (2, 256, 1), (2, 256, 3), (2, 256, 4), (2, 256, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "float16", "int64"])
def test_arrays_of_all_kinds(shape, dtype):
    """Floats in 0..1 come out black, 16-bit ones wrap around, a lone channel is refused."""
    scale = {"uint16": 257, "float32": 1 / 255, "float64": 1 / 255, "float16": 1 / 255}.get(dtype, 1)
    values = np.broadcast_to(ramp().reshape(2, 256, 1), (2, 256, shape[2] if len(shape) == 3 else 1)).copy()
    if values.shape[2] in (2, 4):
        values[..., -1] = 255  # opaque
    array = (values.astype(float) * scale).astype(dtype).reshape(shape)
    np.testing.assert_array_equal(grey(read_image(array)), ramp())


def test_boolean_arrays_are_masks():
    """True is 1 of 255: a black picture."""
    np.testing.assert_array_equal(grey(read_image(np.array([[True, False]]))), [[255, 0]])


def test_an_animation_gives_its_first_frame():
    """The last frame decoded wins, or the file is refused."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    assert close(read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])), RED)


def test_the_callers_image_and_array_stay_as_they_are():
    """What comes back shares memory with what was handed in."""
    image, array = Image.new("RGB", (4, 4), RED), np.zeros((4, 4, 3), np.uint8)
    read_image(image).putpixel((0, 0), GREEN)
    read_image(array).putpixel((0, 0), GREEN)
    assert image.getpixel((0, 0)) == RED and array.max() == 0


def test_paths_of_both_kinds(tmp_path):
    """Only one of str and Path is taken."""
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a b é.png")
    assert close(read_image(tmp_path / "a b é.png"), RED) and close(read_image(str(tmp_path / "a b é.png")), RED)


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 30,000 pixels wide and high."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
BAD_FILES = {
    "empty.png": b"",
    "words.jpg": b"this is not a picture at all",
    "page.png": b"<html><body>404</body></html>",
    "half.png": encoded(NOISE, "PNG")[:4000],
    "half.jpg": encoded(NOISE, "JPEG")[:1500],
    "half.webp": encoded(NOISE, "WEBP", lossless=True)[:4000],
    "half.gif": encoded(NOISE, "GIF")[:1500],
    "half.tiff": encoded(NOISE, "TIFF")[:4000],
    "bomb.png": bomb(),
    "drawing.eps": encoded(NOISE, "EPS"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_end_in_a_sentence_that_names_them(tmp_path, name):
    """Pillow's own message, or a traceback, reaches the person; a drawing is handed to another program."""
    (tmp_path / name).write_bytes(BAD_FILES[name])
    with pytest.raises(UnreadableImage, match=name) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).endswith(("again.", "retry."))
    with pytest.raises(UnreadableImage, match="The image data"):
        read_image(BAD_FILES[name])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Path("missing.png"), "no file 'missing.png'"),
        (".", "is a folder"),
        ("", "no file"),
        (None, "must be a path"),
        (42, "must be a path"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((3, 8, 8), np.uint8), "height x width"),
        (np.zeros((1, 8, 8, 3), np.uint8), "height x width"),
        (np.zeros(5, np.uint8), "height x width"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.linspace(-1, 1, 64).reshape(8, 8), "Scale them"),
        (np.zeros((4, 4), complex), "must hold numbers"),
        (np.full((4, 4), "a"), "must hold numbers"),
        (np.broadcast_to(np.uint8(0), (MAX_PIXELS, 2)), "megapixels"),
    ],
)
def test_what_is_no_picture_ends_in_a_sentence(source, words):
    """A wrong argument dies deep inside numpy, Pillow or torch."""
    with pytest.raises(UnreadableImage, match=words):
        read_image(source)


@pytest.mark.parametrize("size", [128, 250, 256, 512, 1024])
@pytest.mark.parametrize("sides", [(1, 1), (4000, 3000), (9, 16), (1920, 1080), (3, 2), (1170, 2532), (5, 1), (1, 20)])
def test_working_size_keeps_area_and_aspect(sides, size):
    """The frame is cropped or squeezed, or a strip asks for many times the work."""
    width, height = working_size(sides, size, 16)
    assert width % 16 == height % 16 == 0
    assert 0.7 <= width * height / size**2 <= 1.35
    assert abs(np.log(width / height * sides[1] / sides[0])) <= 16 / min(width, height)


def test_working_size_of_strips_and_of_silly_sizes():
    """A panorama of one row of tokens, a size of zero or of a wall, all the way to the GPU."""
    assert working_size((5000, 100), 256, 16) == (1600, 32)
    assert working_size((100, 5000), 256, 16) == (32, 1600)
    width, height = working_size((50, 1), 32, 16)
    assert width * height <= 2 * 32**2
    with pytest.raises(InvalidInput, match="Crop it"):
        working_size((1000, 10), 256, 16)
    for size in (0, -256, 15, 100_000, 256.0, True, "256", None, float("nan")):
        with pytest.raises(InvalidInput, match="whole number of pixels"):
            working_size((4, 3), size, 16)


def test_working_image_is_the_whole_picture_and_a_new_one():
    """The edge of the picture is cut off, or the caller's image is handed back to be drawn on."""
    image = Image.fromarray(np.tile(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], (480, 1, 3)))
    small = working_image(image, 128, 16)
    assert small.size == working_size(image.size, 128, 16)
    row = np.asarray(small)[0, :, 0]
    assert row[0] <= 2 and row[-1] >= 253
    same = working_image(small, 128, 16)
    assert same is not small and same.tobytes() == small.tobytes()
    with pytest.raises(UnreadableImage, match="5 x 3 pixels, too small"):
        working_image(Image.new("RGB", (5, 3)), 128, 16)
