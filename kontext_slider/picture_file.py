"""One edited picture as a PNG, JPEG or WebP file, with its recipe and what is harmless of the photograph's metadata.

A file is written whole or not at all. `export.read_metadata` finds the recipe in it again: in PNG it is a text chunk,
in JPEG and WebP an XMP packet, so that the camera's EXIF keeps its own description.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .edit import EarlierEdit, check_whole
from .errors import InvalidInput
from .files import check_suffix, write_whole
from .images import Photo
from .metadata import metadata_text, png_text
from .photo.colour import SRGB, from_srgb
from .photo.exif import kept_exif, xmp_packet

PICTURE_FORMATS = ("png", "jpg", "jpeg", "webp")
JPEG_QUALITY = 95
MAX_NAME = 200  # bytes; common file systems take 255
_MAX_SIDE = {"webp": 16_383, "jpg": 65_500, "jpeg": 65_500, "png": 2**31 - 1}  # pixels
_MAX_JPEG_BLOCK = 65_502  # bytes that fit one APP1 segment behind its name
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names of devices under Windows


def save_picture(
    picture: Image.Image,
    path: str | os.PathLike[str],
    metadata: dict[str, Any],
    photo: Photo | None = None,
    keep_profile: bool = False,
    keep_location: bool = False,
    quality: int | None = None,
) -> str:
    """Write one picture (in sRGB) as PNG, JPEG or WebP by the suffix, with `metadata` (JSON values) embedded.

    photo: where the picture comes from. Its EXIF data is kept, except orientation, thumbnail, the camera's private
        notes and the place; XMP and IPTC are not kept, as they may hold the place too.
    keep_profile: write the colours of the photograph's own RGB profile; else the file is tagged sRGB.
    keep_location: keep the place (GPS).
    quality: 1 to 100. None is 95 for JPEG, which always has full colour resolution (4:4:4), and lossless for WebP;
        a number makes WebP lossy. PNG is always lossless. JPEG lays what is transparent over white.

    Returns a sentence that says what of the photograph's metadata was left out, "" if nothing. Raises InvalidInput,
    with a sentence, for an unknown suffix, a quality or size that the format does not have, or a folder that cannot
    be written to; then nothing is left behind.
    """
    suffix = check_suffix(path, PICTURE_FORMATS)
    if quality is not None:
        check_whole("quality", quality, 1, 100)
    if max(picture.size) > _MAX_SIDE[suffix]:
        raise InvalidInput(
            f"The picture is {picture.width} x {picture.height} pixels, but a .{suffix} file holds at most "
            f"{_MAX_SIDE[suffix]} on a side. Save it as PNG."
        )
    own = photo.icc_profile if photo and keep_profile else None
    try:
        picture = _plain_pixels(picture, suffix)
        converted = _in_profile(picture, own) if own else None
        exif, left_out = b"", list(photo.other_metadata if photo else [])
        if photo and photo.exif:
            exif, parts = kept_exif(photo.exif, picture.size, keep_location, converted is None)
            left_out = parts + left_out
        if suffix in ("jpg", "jpeg") and len(exif) > _MAX_JPEG_BLOCK:
            exif, left_out = b"", [*left_out, "camera data (EXIF) that is too large for JPEG"]
        data = _encoded(
            converted or picture, suffix, metadata_text(metadata), own if converted else None, exif, quality
        )
    except MemoryError as error:
        raise InvalidInput(f"Saving {path} needs more memory than is free. Close other programs and retry.") from error
    write_whole(path, data)
    sentences = (
        [f"Left out: {' and '.join(filter(None, [', '.join(left_out[:-1]), left_out[-1]]))}."] if left_out else []
    )
    if photo and keep_profile and photo.icc_profile is None:
        sentences.append("Saved as sRGB: the photograph has no other profile.")
    elif photo and keep_profile and converted is None:
        sentences.append("Saved as sRGB: the photograph's profile is not one that an RGB picture can be written in.")
    return " ".join(sentences)


def _plain_pixels(picture: Image.Image, suffix: str) -> Image.Image:
    """RGB or RGBA without anything else that Pillow would write; the picture itself where it is that already."""
    if picture.mode not in ("RGB", "RGBA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if suffix in ("jpg", "jpeg") and picture.mode == "RGBA":
        picture = Photo(picture).on_white()
    if picture.info:
        picture = picture.copy()
        picture.info = {}
    return picture


def _in_profile(picture: Image.Image, icc_profile: bytes) -> Image.Image | None:
    """RGB or RGBA in the colours of a profile; None where it is no RGB profile that can be written to."""
    converted = from_srgb(picture.convert("RGB") if picture.mode == "RGBA" else picture, icc_profile)
    if converted is not None and picture.mode == "RGBA":
        converted.putalpha(picture.getchannel("A"))
    return converted


def _encoded(
    picture: Image.Image, suffix: str, text: str, icc_profile: bytes | None, exif: bytes, quality: int | None
) -> memoryview:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"exif": exif} if exif else {}
    if suffix == "png":
        info = png_text(text)
        if icc_profile is None:
            info.add(b"sRGB", b"\0")  # perceptual
        picture.save(buffer, format="PNG", pnginfo=info, icc_profile=icc_profile, **options)
        return buffer.getbuffer()
    options |= {"xmp": xmp_packet(text), "icc_profile": icc_profile or SRGB}
    if suffix == "webp":
        options |= {"lossless": True} if quality is None else {"quality": quality}
        picture.save(buffer, format="WEBP", **options)
    else:
        if len(options["xmp"]) > _MAX_JPEG_BLOCK:
            raise InvalidInput("The recipe of this picture is too long for a JPEG file. Save it as PNG.")
        picture.save(buffer, format="JPEG", quality=quality or JPEG_QUALITY, subsampling=0, **options)
    return buffer.getbuffer()


def picture_name(
    source_name: str, instruction: str, strength: float, suffix: str, earlier_edits: Sequence[EarlierEdit] = ()
) -> str:
    """A file name that says what was done: ("cat.jpg", "Make it snow!", 0.35, "jpg") gives "cat-make-it-snow-0.35.jpg".

    Earlier edits stand before the last one, each with its strength, shortened where they would fill the name. At most
    200 bytes in UTF-8, without separators, control characters or names that Windows keeps for itself.
    """
    end = f"-{strength:.2f}.{suffix.lower().lstrip('.')}"
    stem = _shortened(_plain(Path(source_name.replace("\\", "/")).stem), MAX_NAME // 2) or "picture"
    if _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    room = MAX_NAME - len(f"{stem}-{end}".encode())
    each = max(8, room // (len(earlier_edits) + 1) - len("-0.00-"))
    before = [f"{_shortened(_dashed(edit.instruction), each) or 'edit'}-{edit.strength:.2f}" for edit in earlier_edits]
    start = _shortened("-".join(before), room // 2) + "-" * bool(before)
    words = _shortened(_dashed(instruction), room - len(start.encode())) or "edit"
    return f"{stem}-{start}{words}{end}"


def _plain(name: str) -> str:
    """Without what some file system refuses in a name."""
    normal = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    kept = "".join("_" if letter in '<>:"/\\|?*' else letter for letter in normal if letter.isprintable())
    return kept.lstrip(" .-")


def _dashed(instruction: str) -> str:
    """Letters, their marks and digits of any script; all else becomes single dashes."""
    normal = unicodedata.normalize("NFC", instruction).lower()
    return re.sub(r"-+", "-", "".join(c if unicodedata.category(c)[0] in "LMN" else "-" for c in normal)).lstrip("-")


def _shortened(text: str, limit: int) -> str:
    """The longest start of `text` that has at most `limit` bytes in UTF-8, with no blank, dot or dash at its end."""
    return text.encode("utf-8", "replace")[:limit].decode(errors="ignore").rstrip(" .-")
