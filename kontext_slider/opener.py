"""Opens an image file without decoding it, HEIC and HEIF too, and without Pillow's own limit of size.

Pillow's limit is a module global and its warning filter is shared by all threads; the caller checks the size of what it
gets before it decodes.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO

import pillow_heif
from PIL import Image, ImageFile, UnidentifiedImageError

_COMMON = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF")


def open_unlimited(content: bytes) -> ImageFile.ImageFile:
    """The image of a file's bytes, not decoded. Raises UnidentifiedImageError, or what a plugin of Pillow raises."""
    _load_plugins()
    prefix = content[:16]
    for name in (*_COMMON, *(name for name in Image.ID if name not in _COMMON)):
        factory, accept = Image.OPEN[name]
        if accept is not None:
            accepted = accept(prefix)
            if not accepted or isinstance(accepted, str):  # a sentence says that Pillow was built without it
                continue
        try:
            return factory(BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how a plugin says: not my format
            continue
    raise UnidentifiedImageError("No plugin knows the format.")


@cache
def _load_plugins() -> None:
    """All that Pillow reads, and HEIF; once."""
    Image.init()
    pillow_heif.register_heif_opener()
