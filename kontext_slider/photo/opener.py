"""Opens picture files: those that Pillow reads and HEIF without decoding them, raw photographs through rawpy.

Pillow's limit of size is a module global and its warning filter is shared by all threads, so neither is used here: the
caller checks what it gets before it decodes (`limits.py`). Raw photographs (DNG, NEF, CR2, CR3, ARW, ORF, RW2, RAF, PEF
and more) are recognised by content; most are TIFF files whose first image is a thumbnail.
Sources: TIFF 6.0, Digital Negative Specification 1.7.
"""

from __future__ import annotations

import importlib
import struct
from io import BytesIO
from typing import Any, BinaryIO

import pillow_heif
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import UnreadableImage
from .limits import check_raw_cost

_COMMON = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF")
RAW_SUFFIXES = (
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf"),
    *(".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".x3f", ".rwl"),
)
_MAGIC = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb")
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR_DATA = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_MAX_TAGS = 4096


def open_unlimited(content: bytes | BinaryIO) -> ImageFile.ImageFile:
    """The image of a file or a file's bytes, not decoded. Raises UnidentifiedImageError, or what a plugin raises."""
    Image.init()
    pillow_heif.register_heif_opener()
    file = BytesIO(content) if isinstance(content, bytes) else content
    prefix = file.read(16)
    for name in (*_COMMON, *(name for name in Image.ID if name not in _COMMON)):
        factory, accept = Image.OPEN[name]
        try:
            if accept is not None and accept(prefix) is not True:  # a text says that Pillow was built without it
                continue
        except struct.error:  # of fewer bytes than a plugin looks at
            continue
        file = BytesIO(content) if isinstance(content, bytes) else content  # a plugin that refuses may have closed it
        file.seek(0)
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how a plugin says: not my format
            continue
    raise UnidentifiedImageError("No plugin knows the format.")


def is_raw(content: bytes, filename: str = "") -> bool:
    """Whether a file holds a camera's sensor data. `filename` helps with the few that look like a common TIFF."""
    if content.startswith(_MAGIC) or content[4:12] == b"ftypcrx " or content[8:10] == b"CR" and content[:4] in _TIFF:
        return True
    if content[:4] not in _TIFF:
        return False
    tags = _first_tags(content)
    is_thumbnail_first = bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1)
    has_sensor_data = _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in _SENSOR_DATA
    return has_sensor_data or is_thumbnail_first or filename.lower().endswith(RAW_SUFFIXES)


def develop(content: bytes, name: str) -> Image.Image:
    """The photograph as the camera meant it: its white balance, upright, RGB in sRGB.

    Raises UnreadableImage, which begins with `name`, without the package rawpy, for too many pixels, also for the bytes
    that are there, or too much memory, and for a file that cannot be developed.
    """
    try:
        rawpy: Any = importlib.import_module("rawpy")
    except ImportError as error:
        raise UnreadableImage(
            f"{name} is a raw photograph, which needs one more package: pip install 'kontext-slider[raw]'. "
            "Or export it as JPEG or TIFF with the program of its camera."
        ) from error
    raw = rawpy.RawPy()
    try:
        raw.open_buffer(BytesIO(content))  # reads the tags, decodes nothing
        num_pixels = raw.sizes.raw_width * raw.sizes.raw_height
        check_raw_cost(num_pixels, len(content), name)
        if num_pixels > 1e6 and 8 * len(content) < num_pixels:  # no camera writes less than a bit for a pixel
            raise UnreadableImage(f"{name} is too short for its {num_pixels / 1e6:.0f} megapixels. Copy it again.")
        raw.unpack()
        pixels = raw.postprocess(use_camera_wb=True, output_color=rawpy.ColorSpace.sRGB, gamma=(2.4, 12.92))
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        words = error.args[0] if error.args else type(error).__name__
        words = words.decode(errors="replace") if isinstance(words, bytes) else words  # LibRaw's are bytes
        raise UnreadableImage(
            f"{name} looks like a raw photograph but cannot be developed here ({words}). "
            "Export it as JPEG or TIFF with the program of its camera and try again."
        ) from error
    finally:
        raw.close()
    return Image.fromarray(pixels)


def _first_tags(content: bytes) -> dict[int, int]:
    """The tags of the first image, each with its first value where that stands in the entry itself."""
    order = _TIFF[content[:4]]
    tags: dict[int, int] = {}
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for at in range(start + 2, start + 2 + 12 * min(count, _MAX_TAGS), 12):
            tag, kind = struct.unpack_from(f"{order}HH", content, at)
            tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), content, at + 8)[0]
    except struct.error:  # a file that is cut off there; whoever decodes it says so
        return tags
    return tags
