"""Colours of every kind become sRGB, and go back into a photograph's own profile.

High dynamic range (PQ, HLG) becomes what a browser shows on an ordinary screen.
Sources: ITU-T H.273 tables 2 and 3 (code points), IEC 61966-2-1 (sRGB), ITU-R BT.2100-2 tables 4 and 5 (PQ, HLG),
ITU-R BT.2408 (diffuse white at 203 cd/m2), Reinhard et al., "Photographic Tone Reproduction for Digital Images",
equation 4, on the largest component, as Chromium does it.

Legend: linear light is relative to diffuse white, which is 1.
"""

from __future__ import annotations

import math
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from ..errors import UnreadableImage
from .colour_tags import HLG, PQ, CodePoints, ColourTags

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
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SRGB = SRGB[:24] + bytes(12) + SRGB[36:]  # without the date, so that the same picture gives the same file
WHITE = 203.0  # cd/m2
HLG_PEAK = 1000.0  # cd/m2, the display that HLG is mastered for
_PIXELS = 1 << 20  # worked on at a time
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_srgb(image: Image.Image, tags: ColourTags, name: str) -> tuple[Image.Image, bytes | None]:
    """`image` (L, RGB, CMYK or LAB) as RGB in sRGB, and its own ICC profile where that is not sRGB.

    `image` may be changed in place. A profile that is broken or belongs to another kind of colour is left out: the
    picture is still worth reading. Raises UnreadableImage, which begins with `name`, for code points not known here.
    """
    if image.mode == "LAB":
        return _through(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))) or image.convert("RGB"), None
    if tags.icc_profile and image.mode in ("L", "RGB", "CMYK"):
        try:
            converted = _through(image, ImageCms.ImageCmsProfile(BytesIO(tags.icc_profile)))
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        return (converted, tags.icc_profile) if converted else (_as_rgb(image), None)
    rgb = _as_rgb(image)
    if tags.code_points:
        _convert_code_points(rgb, tags.code_points, name)
    elif tags.gamma and math.isfinite(tags.gamma) and 0.05 < tags.gamma < 20:
        # 1 / 2.2 is how programs write the curve of sRGB
        gamma = None if abs(tags.gamma - 1 / 2.2) < 0.005 else 1 / tags.gamma
        _convert(rgb, gamma, _usable(tags.chromaticities))
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


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _through(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image | None:
    """`image` through `profile`, RGB in place; None where the profile changes no colour."""
    srgb = ImageCms.ImageCmsProfile(BytesIO(SRGB))
    transform = ImageCms.buildTransform(profile, srgb, image.mode, "RGB")
    if image.mode in ("L", "RGB") and _is_identity(transform, image.mode):
        return None
    return transform.apply_in_place(image) if image.mode == "RGB" else transform.apply(image)


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Decided by what happens to colours all over the space; names of profiles are not to be trusted."""
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    before = colours if mode == "RGB" else np.arange(256, dtype=np.uint8)[None]
    after = np.asarray(transform.apply(Image.fromarray(before)), int)  # (..., 3)
    return bool(np.abs(after - before.reshape(*after.shape[:2], -1)).max() <= SAME_WITHIN)


def _convert_code_points(image: Image.Image, points: CodePoints, name: str) -> None:
    known = points.transfer in SRGB_LIKE or points.transfer in GAMMAS or points.transfer in (PQ, HLG)
    if points.primaries not in PRIMARIES or not known:
        raise UnreadableImage(
            f"{name} has colours that cannot be read here (primaries {points.primaries}, transfer {points.transfer}). "
            "Export it as sRGB and try again."
        )
    if not points.full_range:  # black at 16, white at 235
        image.paste(image.point([round(min(max((code - 16) * 255 / 219, 0), 255)) for code in range(256)] * 3))
    curve = points.transfer if points.transfer in (PQ, HLG) else GAMMAS.get(points.transfer)
    _convert(image, curve, PRIMARIES[points.primaries])


def _convert(image: Image.Image, curve: float | None, chromaticities: Chromaticities) -> None:
    """Change `image` (RGB, 8 bits) into sRGB, in place. curve: PQ, HLG, a gamma, or None for that of sRGB."""
    to_srgb = np.linalg.inv(_to_d50(BT709)) @ _to_d50(chromaticities)  # (3, 3), of linear light
    if curve is None and np.abs(to_srgb - np.eye(3)).max() < 0.005:
        return
    brightest = np.array(image.getextrema()).max()
    peak = float(_linear(np.full((1, 3), brightest, np.uint8), curve).max())
    if curve != HLG and peak <= 1 and np.abs(to_srgb - np.eye(3)).max() < 0.005:  # each channel alone
        codes = _encoded(_linear(np.arange(256, dtype=np.uint8), curve))
        image.paste(image.point(codes.tolist() * 3))
        return
    rows = max(1, _PIXELS // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        light = _linear(np.asarray(image.crop(box)), curve)  # (rows, W, 3)
        if peak > 1:  # it comes down to 1; what is no brighter than white stays as it is
            largest = light.max(axis=-1, keepdims=True)
            light = light * ((1 + largest / peak**2) / (1 + largest))
        image.paste(Image.fromarray(_encoded(light @ to_srgb.T.astype(np.float32))), box)


def _linear(codes: np.ndarray, curve: float | None) -> np.ndarray:
    """uint8 codes (..., 3) to the light of the display."""
    signal = np.arange(256) / 255
    if curve == PQ:  # cd/m2 = 10000 (max(E^(1/m2) - c1, 0) / (c2 - c3 E^(1/m2)))^(1/m1)
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        light = 10_000 / WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    elif curve == HLG:  # of the scene, 0..1: E^2 / 3 up to 1/2, then (exp((E - c) / a) + b) / 12
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        scene = light.astype(np.float32)[codes]
        luminance = (scene @ _LUMINANCE)[..., None]
        return scene * luminance**0.2 * np.float32(HLG_PEAK / WHITE)  # system gamma 1.2 at 1000 cd/m2
    elif curve is None:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    else:
        light = signal**curve
    return light.astype(np.float32)[codes]


def _encoded(light: np.ndarray) -> np.ndarray:
    """Linear light to sRGB codes, uint8; what no screen of sRGB can show is clipped."""
    return _codes_of_light()[np.rint(light.clip(0, 1) * 65535).astype(np.uint16)]


@cache
def _codes_of_light() -> np.ndarray:
    """The sRGB code, uint8, of each 65535th of linear light: a step of these is at most .05 of a code."""
    light = np.arange(65536) / 65535
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(signal * 255).astype(np.uint8)


def _usable(chromaticities: Chromaticities | None) -> Chromaticities:
    """Those of sRGB in the place of primaries that are none."""
    try:
        if chromaticities and len(chromaticities) == 8 and min(chromaticities[1::2]) > 0:
            np.linalg.inv(_to_d50(chromaticities))
            return chromaticities
    except np.linalg.LinAlgError:  # primaries on one line
        pass
    return BT709


def _to_d50(chromaticities: Chromaticities) -> np.ndarray:
    """(3, 3): linear RGB to XYZ, its white taken to D50 by Bradford."""
    points = np.array(chromaticities, float).reshape(4, 2)
    white, *primaries = np.column_stack([points, 1 - points.sum(axis=1)]) / points[:, 1:]
    columns = np.stack(primaries, axis=1)
    to_cones = _BRADFORD @ columns * np.linalg.solve(columns, white)
    d50 = np.array([0.9642, 1.0, 0.8249])
    return np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ d50 / (_BRADFORD @ white)) @ to_cones
