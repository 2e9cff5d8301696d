"""What a picture may cost: a file of a few bytes can ask for gigabytes of memory and for minutes.

What a file says of its size is compared with limits before anything is decoded, and one file is decoded at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ..errors import KontextSliderError, UnreadableImage

MAX_PIXELS = 110_000_000  # cameras of 100 and telephones of 108 megapixels
MAX_FILE = 900_000_000  # bytes: 110 megapixels of 16 bits, not compressed
MAX_DECODED = 900_000_000  # bytes that the pixels of one file may take while it is opened
MAX_MEMORY = 1_250_000_000  # the same with the file's own bytes
# Bytes for a pixel while a format is decoded, as measured (docs/reliability.md). Pillow keeps four of them. None: an
# image that a program has made in memory, of which a copy is taken.
_PLAIN = (None, "JPEG", "MPO", "PNG", "TIFF", "GIF", "BMP", "TGA")
_DECODING = {"WEBP": 16, "AVIF": 10, "HEIF": 8} | dict.fromkeys(_PLAIN, 4)
_OTHER_FORMATS = 20
_RAW = 14.5  # of a camera's sensor data, while LibRaw develops it
_one_at_a_time = threading.Lock()


def check_cost(image: Image.Image, num_bytes: int, name: str, is_turned: bool) -> None:
    """UnreadableImage, before it is decoded, for a picture of too many pixels or bytes of memory.

    num_bytes: of its file. is_turned: whether it lies on its side, so that there will be a second picture.
    """
    check_pixels(image.width * image.height, name)
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    afterwards = max(8 * deep, 5 * (image.mode != "RGB"), 4 * is_turned)  # what is made of the decoded pixels
    per_pixel = _DECODING.get(image.format, _OTHER_FORMATS) + afterwards
    needed = per_pixel * image.width * image.height
    allowed = _allowed(num_bytes)
    if needed > allowed:
        megapixels = allowed / per_pixel / 1e6
        raise UnreadableImage(
            f"{name} is {image.format or image.mode} of {image.width} x {image.height} pixels, which takes "
            f"{needed / 1e9:.1f} GB of memory to open. Scale it down to {max(megapixels, 1):.0f} megapixels, "
            "or save it as JPEG, and try again."
        )


def check_raw_cost(num_pixels: int, num_bytes: int, name: str) -> None:
    """As `check_cost`, for a raw photograph of so many pixels."""
    check_pixels(num_pixels, name)
    needed = _RAW * num_pixels
    if needed > _allowed(num_bytes):
        raise UnreadableImage(
            f"{name} is a raw photograph of {num_pixels / 1e6:.0f} megapixels, which takes {needed / 1e9:.1f} GB of "
            "memory to develop. Export it as JPEG or TIFF with the program of its camera and try again."
        )


def _allowed(num_bytes: int) -> int:
    """Bytes of memory for the pixels of a file of `num_bytes`."""
    return min(MAX_DECODED, MAX_MEMORY - num_bytes)


def check_pixels(num_pixels: int, name: str) -> None:
    """UnreadableImage for more than MAX_PIXELS."""
    if num_pixels > MAX_PIXELS:
        raise UnreadableImage(_too_large(name))


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """One picture at a time is decoded in blocks of this; it must not be nested. What goes wrong inside becomes
    UnreadableImage with a sentence about `name`."""
    with _one_at_a_time:
        try:
            yield
        except KontextSliderError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableImage(_too_large(name)) from error
        except UnidentifiedImageError as error:
            raise UnreadableImage(
                f"{name} is not an image that can be read here. Save it as PNG, JPEG or WebP and try again."
            ) from error
        except Exception as error:  # a broken file can raise anything from inside the decoders
            raise UnreadableImage(_what_broke(name, error)) from error


def _what_broke(name: str, error: Exception) -> str:
    if _out_of_memory(error):
        return f"{name} needs more memory than is free. Close other programs, or scale it down, and try again."
    is_told = isinstance(error, OSError | SyntaxError)  # by a decoder; other errors speak of its inside
    reason = f" ({error})" if is_told and str(error).strip() else ""
    return f"{name} is damaged or incomplete{reason}. Save or download it again and retry."


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran short: decoders say it by MemoryError, or in words (libjpeg, libtiff, libaom, OpenJPEG)."""
    while error is not None:
        words = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in words or "memory alloc" in words:
            return True
        error = error.__cause__ or error.__context__
    return False


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels. Scale it down and try again."
