"""Colours of every kind are read, and compared with what a browser shows on an ordinary screen."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from kontext_slider.errors import UnreadableImage
from kontext_slider.images import read_image, read_photo
from kontext_slider.photo.colour import BT709, PRIMARIES, SRGB, from_srgb
from tests.profiles import matrix_profile

DATA = Path(__file__).parents[1] / "data"
SRGB_CURVE, PQ, HLG = 13, 16, 18
DISPLAY_P3 = (12, SRGB_CURVE)
PATCH = (200, 120, 80)
PATCH_OF_P3 = (213, 115, 70)  # what a browser shows of PATCH in Display P3


def png(colour=PATCH, chunks: dict[bytes, bytes] | None = None, mode: str = "RGB", **options) -> bytes:
    """A PNG of one colour with `chunks` before its pixels."""
    stream = BytesIO()
    Image.new(mode, (8, 8), colour).save(stream, "PNG", **options)
    data = stream.getvalue()
    inserted = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (chunks or {}).items()
    )
    return data[:33] + inserted + data[33:]


def heif(colour=PATCH, primaries: int = 1, transfer: int = SRGB_CURVE) -> bytes:
    read_photo(png())  # registers the encoder, too
    stream = BytesIO()
    tags = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
    Image.new("RGB", (64, 64), colour).save(stream, "HEIF", quality=-1, save_nclx_profile=True, **tags)
    return stream.getvalue()


def cicp(primaries: int, transfer: int, full_range: int = 1) -> dict[bytes, bytes]:
    return {b"cICP": bytes([primaries, transfer, 0, full_range])}


def gamma(value: float) -> dict[bytes, bytes]:
    return {b"gAMA": struct.pack(">I", round(value * 100_000))}


def chromaticities(values=PRIMARIES[12]) -> dict[bytes, bytes]:
    return {b"cHRM": struct.pack(">8I", *(round(value * 100_000) for value in values))}


def colour_of(data: bytes) -> np.ndarray:
    return np.asarray(read_image(data), int)[4, 4]


def assert_shows(data: bytes, colour, within: int = 1) -> None:
    assert np.abs(colour_of(data) - colour).max() <= within, colour_of(data)


def linear_profile(name: str) -> bytes:
    return matrix_profile(1, 1.0, name)


def test_a_linear_profile_that_is_called_srgb_is_converted() -> None:
    """GIMP's and Krita's "Linear sRGB" was taken for sRGB by its name, and the picture came out nearly black."""
    assert_shows(png((55, 55, 55), icc_profile=linear_profile("GIMP built-in Linear sRGB")), (128, 128, 128))


@pytest.mark.parametrize("profile", [SRGB, matrix_profile(1, None, "Camera RGB")])
def test_a_profile_that_is_srgb_by_any_name_changes_nothing(profile: bytes) -> None:
    """Conversion from sRGB to sRGB rounds, and the photograph is no longer itself at strength 0."""
    photo = read_photo(png(icc_profile=profile))
    assert tuple(np.asarray(photo.image)[4, 4]) == PATCH and photo.icc_profile is None


def test_the_srgb_profile_of_saved_files_is_the_same_each_time() -> None:
    """LittleCMS writes the time into it: the same picture gave another file every second."""
    assert SRGB[24:36] == bytes(12)
    assert ImageCms.getProfileName(ImageCms.ImageCmsProfile(BytesIO(SRGB))).startswith("sRGB")


def test_gamma_chunk() -> None:
    """A PNG with gAMA 1.0 (linear light, as renderers write it) came out dark: 52 where a browser shows 115."""
    assert_shows(png((55, 55, 55), gamma(1.0)), (128, 128, 128))


@pytest.mark.parametrize("value", [0.45455, 0.4545])
def test_the_usual_gamma_chunk_changes_nothing(value: float) -> None:
    """Most programs write gAMA 0.45455 for sRGB; a curve of 2.2 would shift its shadows."""
    assert tuple(colour_of(png((12, 30, 80), gamma(value)))) == (12, 30, 80)


def test_chromaticities_count_together_with_gamma() -> None:
    """The colours of a PNG in Display P3, written before cICP, came out dull."""
    assert_shows(png(chunks=gamma(1 / 2.2) | chromaticities()), PATCH_OF_P3)
    assert_shows(png(chunks=chromaticities()), PATCH)  # browsers ask for both


@pytest.mark.parametrize("broken", [(0,) * 8, (0.3127, 0.329, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3), BT709[:1] + (0,) * 7])
def test_impossible_chromaticities_are_left_out(broken) -> None:
    """A broken chunk kept its owner from editing the picture."""
    assert_shows(png(chunks=gamma(1 / 2.2) | chromaticities(broken)), PATCH)


@pytest.mark.parametrize("value", [0, 0.00001, 20_000])
def test_impossible_gamma_is_left_out(value: float) -> None:
    """A gamma of nothing makes a picture of nothing."""
    assert_shows(png(chunks=gamma(value)), PATCH)


def test_cicp_chunk() -> None:
    """A screenshot in Display P3 came out dull: cICP was not read."""
    assert_shows(png(chunks=cicp(*DISPLAY_P3)), PATCH_OF_P3)
    assert_shows(png((*PATCH, 128), cicp(*DISPLAY_P3), mode="RGBA"), [(v + 255) / 2 for v in PATCH_OF_P3], within=2)


@pytest.mark.parametrize(
    ("chunks", "profile", "shown"),
    [
        (cicp(1, SRGB_CURVE) | gamma(1.0), linear_profile("linear"), PATCH),  # cICP first
        (gamma(0.2), matrix_profile(12, None, "P3"), PATCH_OF_P3),  # then iCCP
        ({b"sRGB": b"\0"} | gamma(1.0) | chromaticities(), None, PATCH),  # then sRGB
    ],
)
def test_precedence_of_chunks(chunks, profile, shown) -> None:
    """Two chunks that disagree were both followed, or the wrong one."""
    assert_shows(png(chunks=chunks, icc_profile=profile), shown)


def test_narrow_range_is_stretched() -> None:
    """Black at 16 and white at 235 make a picture without contrast."""
    assert_shows(png((16, 235, 126), cicp(1, SRGB_CURVE, full_range=0)), (0, 255, 128))


@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
def test_the_curves_of_video_are_shown_as_srgb(transfer: int) -> None:
    """Most AVIF files say BT.709; browsers show them as they are, and so must we."""
    assert tuple(colour_of(png(chunks=cicp(1, transfer)))) == PATCH


@pytest.mark.parametrize("points", [(10, 13), (1, 9), (1, 17), (200, 13)])
def test_unknown_code_points_end_in_a_sentence(points: tuple[int, int]) -> None:
    """Colours that nobody here can read are not to be guessed in silence."""
    with pytest.raises(UnreadableImage, match="The image data has colours that cannot be read here"):
        read_image(png(chunks=cicp(*points)))


def test_code_points_of_heif_and_avif() -> None:
    """A photograph that says Display P3 by code points instead of a profile came out dull."""
    photo = read_photo(heif(primaries=12))
    assert np.abs(np.asarray(photo.image, int)[32, 32] - PATCH_OF_P3).max() <= 3


def test_hdr_avif() -> None:
    """A PQ photograph in BT.2020 came out grey: its mean chroma was 21 where the same photograph in sRGB has 61."""
    pixels = np.asarray(read_image(DATA / "hdr_pq.avif"), int)
    assert abs((pixels.max(axis=-1) - pixels.min(axis=-1)).mean() - 61) < 2
    assert abs(pixels.mean() - 115) < 2


def pq_code(nits: float) -> int:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10_000) ** m1
    return round(255 * ((c1 + c2 * power) / (1 + c3 * power)) ** m2)


@pytest.mark.parametrize(
    ("transfer", "codes"), [(PQ, [pq_code(nits) for nits in (0, 40, 203, 1000)]), (HLG, [0, 110, 191, 255])]
)
def test_highlights_are_compressed_and_nothing_else_is_lost(transfer: int, codes: list[int]) -> None:
    """Highlights were clipped, or the rest of the picture was turned to grey to make room for them."""
    image = Image.fromarray(np.repeat(np.array(codes, np.uint8), 8).reshape(1, 32, 1).repeat(8, 0).repeat(3, 2))
    stream = BytesIO()
    image.save(stream, "PNG")
    data = stream.getvalue()
    chunk = b"cICP" + bytes([9, transfer, 0, 1])
    data = data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    shown = np.asarray(read_image(data), int)[4, ::8]
    assert (shown.max(axis=-1) - shown.min(axis=-1)).max() <= 1  # grey stays grey
    black, shade, white, highlight = shown[:, 0]
    assert black == 0 and 70 < shade < 130 and 170 < white < 215 and highlight >= 253


def test_hdr_that_is_no_brighter_than_white_keeps_its_brightness() -> None:
    """A tone curve that is always on darkens a picture that needs none."""
    assert_shows(png((pq_code(203),) * 3, cicp(9, PQ)), (255, 255, 255), within=2)
    assert_shows(png((pq_code(203 * 0.2158),) * 3, cicp(9, PQ)), (128, 128, 128), within=2)
    assert_shows(heif((191,) * 3, 9, HLG), (255, 255, 255), within=3)


def test_hdr_profile_with_code_points() -> None:
    """A JPEG whose ICC profile says PQ by its cicp tag came out grey."""
    profile = bytearray(matrix_profile(12, None, "Rec2100 PQ"))
    place = profile.index(b"cprt")
    profile[place : place + 4] = b"cicp"
    struct.pack_into(">II", profile, place + 4, len(profile), 12)
    profile += b"cicp\0\0\0\0" + bytes([9, PQ, 0, 1])
    struct.pack_into(">I", profile, 0, len(profile))
    assert_shows(png((pq_code(203),) * 3, icc_profile=bytes(profile)), (255, 255, 255), within=2)


def test_into_a_profile_and_back() -> None:
    """A photograph saved in its own profile had other colours than before."""
    noise = Image.fromarray(np.random.default_rng(0).integers(50, 206, (32, 32, 3), dtype=np.uint8))
    profile = matrix_profile(12, None, "P3")
    converted = from_srgb(noise, profile)
    assert converted is not None
    stream = BytesIO()
    converted.save(stream, "PNG", icc_profile=profile)
    assert np.abs(np.asarray(read_image(stream.getvalue()), int) - np.asarray(noise)).max() <= 2


def test_what_no_rgb_picture_can_be_written_in() -> None:
    """A profile for ink or grey was put into an RGB file."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert from_srgb(Image.new("RGB", (2, 2)), lab) is None
    assert from_srgb(Image.new("RGB", (2, 2)), b"not a profile") is None
