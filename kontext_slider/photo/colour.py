"""Colours of every kind become sRGB, and go back into a photograph's own profile.

Sources: ICC.1:2010 (profile format), ITU-T H.273 tables 2 and 3 (code points), IEC 61966-2-1 (sRGB).
"""

from __future__ import annotations

import math
import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from ..errors import UnreadableImage
from .colour_tags import CodePoints, ColourTags
from .depth import HLG, PQ, tone_map

Chromaticities = tuple[float, ...]  # x, y of white, red, green, blue
D65 = (0.3127, 0.3290)
BT709 = (*D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
PRIMARIES: dict[int, Chromaticities] = {  # ITU-T H.273 table 2
    1: BT709,
    2: BT709,  # unspecified
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}  # ITU-T H.273 table 3
SRGB_LIKE = {1, 2, 6, 7, 11, 12, 13, 14, 15}  # those of video too: browsers show them with the curve of sRGB
SAME_WITHIN = 2  # of 255: what conversion through a profile that is sRGB rounds
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_srgb(image: Image.Image, tags: ColourTags, name: str) -> tuple[Image.Image, bytes | None]:
    """`image` (L, RGB, CMYK or LAB) as RGB in sRGB, and its own profile where that is not sRGB.

    `image` may be changed in place. A profile that is broken or belongs to another kind of colour is left out: the
    picture is still worth reading. Raises UnreadableImage, which begins with `name`, for code points not known here.
    """
    if image.mode == "LAB":
        return _through(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))) or image.convert("RGB"), None
    if tags.icc_profile and image.mode in ("L", "RGB", "CMYK"):
        try:
            converted = _through(image, ImageCms.ImageCmsProfile(BytesIO(tags.icc_profile)))
        except (ImageCms.PyCMSError, OSError, ValueError):
            return _as_rgb(image), None
        return (converted, tags.icc_profile) if converted else (_as_rgb(image), None)
    rgb = _as_rgb(image)
    if tags.code_points:
        return _from_code_points(rgb, tags.code_points, name)
    if tags.gamma and math.isfinite(tags.gamma) and 0.05 < tags.gamma < 20:
        return _from_gamma(rgb, tags.gamma, tags.chromaticities), None
    return rgb, None


def from_srgb(image: Image.Image, icc_profile: bytes) -> Image.Image | None:
    """`image` (RGB, sRGB) in the colours of an RGB profile; None where the profile is of another kind, or one-way."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc_profile))
        if profile.profile.xcolor_space.strip() != "RGB":
            return None
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(BytesIO(SRGB)), profile, "RGB", "RGB")
        return transform.apply(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def matrix_profile(chromaticities: Chromaticities, gamma: float | None, name: str) -> bytes:
    """An ICC profile (version 4) of an RGB space; gamma None stands for the curve of sRGB. The same bytes each time."""
    adaptation = _adaptation(chromaticities)
    colorants = adaptation @ _to_xyz(chromaticities)  # (3, 3)
    exponents = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045] if gamma is None else [gamma]
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0 if gamma else 3, 0) + _fixed(exponents)
    text = name.encode("utf-16-be")
    words = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = [(b"desc", words), (b"cprt", words), (b"wtpt", b"XYZ \0\0\0\0" + _fixed(_D50))]
    tags += [(b"chad", b"sf32\0\0\0\0" + _fixed(adaptation.ravel()))]
    tags += [(key, b"XYZ \0\0\0\0" + _fixed(column)) for key, column in zip(_COLORANTS, colorants.T, strict=True)]
    return _profile([*tags, (b"rTRC", curve), (b"gTRC", curve), (b"bTRC", curve)])


_COLORANTS = (b"rXYZ", b"gXYZ", b"bXYZ")


def _profile(tags: list[tuple[bytes, bytes]]) -> bytes:
    """Header, table and data of an ICC profile; equal data is stored once."""
    table, body, places = struct.pack(">I", len(tags)), b"", {}
    for key, data in tags:
        if data not in places:
            places[data] = 132 + 12 * len(tags) + len(body)
            body += data + b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", places[data], len(data))
    size = struct.pack(">I", 128 + len(table) + len(body))
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    header = size + b"\0\0\0\0\x04\x20\0\0mntrRGB XYZ " + date + b"acsp" + b"\0" * 28 + _fixed(_D50)
    return header.ljust(128, b"\0") + table + body


def _fixed(values: np.ndarray | list[float]) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _to_xyz(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): linear RGB to XYZ, white of the space itself. Raises LinAlgError for primaries on one line."""
    points = np.array(chromaticities, float).reshape(4, 2)
    white, *primaries = np.column_stack([points, 1 - points.sum(axis=1)]) / points[:, 1:]
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)


def _adaptation(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): XYZ under the space's white to XYZ under D50, by Bradford."""
    x, y = chromaticities[:2]
    cones = _BRADFORD @ np.array([x / y, 1, (1 - x - y) / y])
    return np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cones) @ _BRADFORD


SRGB = matrix_profile(BT709, None, "sRGB")


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """`image` through `profile`, RGB in place; None where the profile changes no colour."""
    srgb = ImageCms.ImageCmsProfile(BytesIO(SRGB))
    transform = ImageCms.buildTransform(profile, srgb, image.mode, "RGB")
    if image.mode in ("L", "RGB") and _is_identity(transform, image.mode):
        return None
    if image.mode != "RGB":
        return transform.apply(image)
    return transform.apply_in_place(image)


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Decided by what happens to colours all over the space; names of profiles are not to be trusted."""
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    before = colours if mode == "RGB" else np.arange(256, dtype=np.uint8)[None]
    after = np.asarray(transform.apply(Image.fromarray(before)), int)  # (..., 3)
    return bool(np.abs(after - before.reshape(*after.shape[:2], -1)).max() <= SAME_WITHIN)


def _from_code_points(image: Image.Image, points: CodePoints, name: str) -> tuple[Image.Image, bytes | None]:
    known = points.transfer in SRGB_LIKE or points.transfer in GAMMAS or points.transfer in (PQ, HLG)
    if points.primaries not in PRIMARIES or not known:
        raise UnreadableImage(
            f"{name} has colours that cannot be read here (primaries {points.primaries}, transfer {points.transfer}). "
            "Export it as sRGB and try again."
        )
    if not points.full_range:  # black at 16, white at 235
        image = image.point([round(min(max((value - 16) * 255 / 219, 0), 255)) for value in range(256)] * 3)
    chromaticities = PRIMARIES[points.primaries]
    if points.transfer in (PQ, HLG):
        tone_map(image, points.transfer, _matrix_to_srgb(chromaticities))
        return image, None
    profile = matrix_profile(chromaticities, GAMMAS.get(points.transfer), f"H.273 {points.primaries}")
    converted = _through(image, ImageCms.ImageCmsProfile(BytesIO(profile)))
    return (converted, profile) if converted else (image, None)


def _matrix_to_srgb(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): linear RGB of these primaries to that of sRGB."""
    to_d50 = _adaptation(chromaticities) @ _to_xyz(chromaticities)
    return np.linalg.inv(_adaptation(BT709) @ _to_xyz(BT709)) @ to_d50


def _from_gamma(image: Image.Image, gamma: float, chromaticities: Chromaticities | None) -> Image.Image:
    """1 / 2.2 is how programs write the curve of sRGB. Primaries that are none are left out."""
    curve = None if abs(gamma - 1 / 2.2) < 0.005 else 1 / gamma
    if not chromaticities or len(chromaticities) != 8 or min(chromaticities[1::2]) <= 0:
        chromaticities = BT709
    try:
        profile = matrix_profile(chromaticities, curve, "gAMA")
        return _through(image, ImageCms.ImageCmsProfile(BytesIO(profile))) or image
    except (np.linalg.LinAlgError, ImageCms.PyCMSError, OSError, struct.error):
        return image
