"""Opens an image file without decoding it, HEIC and HEIF too, and without Pillow's own limit of size; tells of errors.

Pillow's limit is a module global and its warning filter is shared by all threads; the caller checks the size of what it
gets before it decodes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO

import pillow_heif
from PIL import Image, ImageFile, UnidentifiedImageError

from .errors import UnreadableImage

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


@contextmanager
def named_errors(name: str, max_pixels: int) -> Iterator[None]:
    """What goes wrong inside becomes UnreadableImage with a sentence about `name`."""
    try:
        yield
    except UnreadableImage:
        raise
    except MemoryError as error:
        raise UnreadableImage(
            f"{name} needs more memory than is free. Close other programs, or scale it down, and try again."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(too_large(name, max_pixels)) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            f"{name} is not an image that can be read here. Save it as PNG, JPEG or WebP and try again."
        ) from error
    except Exception as error:  # a broken file can raise anything from inside the decoders
        reason = f" ({error})" if str(error).strip() else ""
        raise UnreadableImage(
            f"{name} is damaged or incomplete{reason}. Save or download it again and retry."
        ) from error


def too_large(name: str, max_pixels: int) -> str:
    """The sentence for a picture of more than `max_pixels`."""
    return f"{name} has more than {max_pixels // 1_000_000} megapixels. Scale it down and try again."
