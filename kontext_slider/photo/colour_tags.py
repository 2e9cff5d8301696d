"""What an image file says about its colours: ICC profile, code points of ITU-T H.273 (cICP, nclx), gamma.

Precedence as in the PNG specification, third edition, section 4.3: cICP, iCCP, sRGB, gAMA with cHRM. In HEIF and AVIF a
profile goes before the code points.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pillow_heif
from PIL import Image

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273


@dataclass(frozen=True)
class CodePoints:
    """Colour primaries and transfer characteristics by their numbers in ITU-T H.273; 1, 13 is sRGB."""

    primaries: int
    transfer: int
    full_range: bool = True


@dataclass(frozen=True)
class ColourTags:
    """At most one of `icc_profile`, `code_points` and `gamma` is there; nothing at all means sRGB.

    gamma: exponent from linear light to the file's values, for example 0.45455.
    chromaticities: x, y of white, red, green, blue; goes with gamma.
    """

    icc_profile: bytes | None = None
    code_points: CodePoints | None = None
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None


def read_colour_tags(image: Image.Image, content: bytes | None = None) -> ColourTags:
    """The tags that decide. `content` is the whole file where it is at hand: Pillow does not read all of them."""
    if content is not None and image.format == "PNG" and (code_points := _of_png(content)):
        return ColourTags(code_points=code_points)
    if profile := image.info.get("icc_profile"):
        code_points = _of_profile(profile)
        return ColourTags(code_points=code_points) if code_points else ColourTags(icc_profile=profile)
    nclx = image.info.get("nclx_profile")
    if content is not None and image.format == "AVIF":
        nclx = _nclx_of_avif(content)
    if nclx:  # the decoder has brought the values to full range
        return ColourTags(code_points=CodePoints(nclx["color_primaries"], nclx["transfer_characteristics"]))
    if "srgb" not in image.info and (gamma := image.info.get("gamma")):
        return ColourTags(gamma=gamma, chromaticities=image.info.get("chromaticity"))
    return ColourTags()


def _of_png(content: bytes) -> CodePoints | None:
    """The cICP chunk, which stands before the pixels."""
    at = 8
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IDAT":
            return None
        if kind == b"cICP" and length == 4 and at + 12 <= len(content):
            primaries, transfer, _, full_range = content[at + 8 : at + 12]
            return CodePoints(primaries, transfer, bool(full_range))
        at += 12 + length
    return None


def _of_profile(profile: bytes) -> CodePoints | None:
    """The cicp tag of an ICC profile (ICC.1:2022, 9.2.17) where it says PQ or HLG; other profiles say enough."""
    count = int.from_bytes(profile[128:132], "big")
    for at in range(132, min(132 + 12 * count, len(profile) - 11), 12):
        kind, offset, length = struct.unpack_from(">4sII", profile, at)
        if kind == b"cicp" and length >= 12 and offset + 12 <= len(profile):
            primaries, transfer = profile[offset + 8 : offset + 10]
            return CodePoints(primaries, transfer) if transfer in (PQ, HLG) else None
    return None


def _nclx_of_avif(content: bytes) -> dict[str, int] | None:
    """The code points of the primary image. Pillow does not tell them; libheif reads the boxes without decoding."""
    try:
        return pillow_heif.open_heif(content).info.get("nclx_profile")
    except (ValueError, RuntimeError, OSError, SyntaxError, EOFError):  # for example a sequence without a still image
        return None
