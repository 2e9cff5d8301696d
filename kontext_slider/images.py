"""Any picture a person hands over becomes 8-bit sRGB, upright, on white, at a size the model can work on.

Legend: H, W height and width in pixels; sizes are (width, height), as Pillow gives them.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from .errors import InvalidInput, UnreadableImage

ImageLike = str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray

MAX_PIXELS = 89_000_000  # just under the limit at which Pillow itself warns of a decompression bomb
MIN_SIDE = 8  # pixels; below that there is nothing to edit
MAX_ASPECT = 64  # longer side over shorter side
MAX_SIZE = 2048  # side of the square of the working area, pixels

_VECTOR_FORMATS = {"EPS", "WMF"}  # Pillow hands these to other programs to draw
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF 2.3, tag 0x0112: what turns the stored pixels into the picture as it was seen
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """A photograph as it was handed over, ready to edit.

    image: upright, 8-bit sRGB, at its own size; RGBA where a pixel is transparent, else RGB.
    icc_profile: the photograph's own profile when it is not sRGB, to save a result in it again.
    exif: the EXIF block as it stood in the file (with or without its "Exif" prefix).
    name: the bare file name, "" where there is none.
    """

    image: Image.Image
    icc_profile: bytes | None = None
    exif: bytes | None = None
    name: str = ""

    def on_white(self) -> Image.Image:
        """The picture as RGB, what is transparent laid over white; always a new image."""
        if self.image.mode == "RGB":
            return self.image.copy()
        canvas = Image.new("RGB", self.image.size, "white")
        canvas.paste(self.image, mask=self.image.getchannel("A"))
        return canvas


def read_image(source: ImageLike) -> Image.Image:
    """Read a picture as RGB the way a person expects to see it, what is transparent laid over white.

    Takes and raises what `read_photo` does.
    """
    return read_photo(source).on_white()


def read_photo(source: ImageLike) -> Photo:
    """Read a picture the way a person expects to see it, with what is needed to save a result beside it.

    `source` is a path, the bytes of an image file, a PIL image or a numpy array (H x W, or H x W x 1, 2, 3 or 4
    channels; uint8, uint16, bool, other integers, or floats in 0..1). EXIF rotation is applied, an embedded colour
    profile is converted to sRGB, 16-bit and float grey are scaled to 8 bits, and of an animation the first frame is
    taken. A PIL image or array of the caller is never changed.

    Raises UnreadableImage, with a sentence that names the file and says what to do.
    """
    if isinstance(source, np.ndarray):
        return Photo(_flatten(_from_array(source)))
    if isinstance(source, Image.Image):
        filename = os.fspath(getattr(source, "filename", "") or "")
        return _finish(source, repr(filename) if filename else "The image", os.path.basename(filename))
    if isinstance(source, bytes | bytearray):
        return _open(BytesIO(source), "The image data", "")
    if isinstance(source, str | os.PathLike):
        return _open_path(source)
    kind = type(source).__name__
    raise UnreadableImage(f"An image must be a path, the bytes of a file, a PIL image or a numpy array, not {kind}.")


def working_size(size_of_source: tuple[int, int], size: int, multiple: int) -> tuple[int, int]:
    """The (width, height) at which a source is edited.

    Both sides are multiples of `multiple`, the area is about `size`**2, and the aspect ratio is as close to the
    source's as such sides allow. `size` is in pixels, from `multiple` to 2048.

    Raises InvalidInput for a size no model can use and for a strip longer than 64 times its other side.
    """
    size = _checked_size(size, multiple)
    width, height = size_of_source
    if min(width, height) < 1:
        raise UnreadableImage("The image has no pixels. Choose another file.")
    aspect = max(width, height) / min(width, height)
    if aspect > MAX_ASPECT:
        raise InvalidInput(
            f"The image is {width} x {height} pixels, a strip too narrow to edit. "
            f"Crop it so that one side is at most {MAX_ASPECT} times the other."
        )
    short, long = _best_sides(aspect, size, multiple)
    return (long, short) if width >= height else (short, long)


def working_image(image: Image.Image, size: int, multiple: int) -> Image.Image:
    """The whole of `image` (RGB), nothing cropped, resized to `working_size`. Always a new image.

    Raises UnreadableImage for a picture of a few pixels and InvalidInput as `working_size` does.
    """
    _check_sides(image)
    return fitted(image, working_size(image.size, size, multiple))


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole of `image` (RGB) at `size` (width, height). Raises UnreadableImage for a picture of a few pixels."""
    _check_sides(image)
    return image.resize(size, Image.Resampling.LANCZOS)


def _check_sides(image: Image.Image) -> None:
    if min(image.size) < MIN_SIDE:
        raise UnreadableImage(
            f"The image is {image.width} x {image.height} pixels, too small to edit. "
            f"Choose one of at least {MIN_SIDE} pixels on each side."
        )


def _checked_size(size: int, multiple: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not multiple <= size <= MAX_SIZE:
        raise InvalidInput(f"The size must be a whole number of pixels from {multiple} to {MAX_SIZE}, not {size!r}.")
    return int(size)


def _best_sides(aspect: float, size: int, multiple: int) -> tuple[int, int]:
    """(short, long) in pixels: the aspect ratio weighs twice as much as the area, both as log-ratios."""

    def cost(sides: tuple[int, int]) -> float:
        short, long = sides
        return abs(math.log(long / short / aspect)) + 0.5 * abs(math.log(long * short / size**2))

    ideal = size / math.sqrt(aspect) / multiple
    shorts = [max(1, math.floor(ideal)), math.ceil(ideal)]
    candidates = []
    for short in shorts:
        for long in (short * aspect, size * size / (short * multiple**2)):
            candidates.append((short * multiple, max(short, round(long)) * multiple))
    return min((sides for sides in candidates if math.prod(sides) <= 1.6 * size**2), key=cost)


def _open_path(path: str | os.PathLike) -> Photo:
    name = os.fspath(path)
    if not os.path.exists(name):
        raise UnreadableImage(f"There is no file {name!r}. Check the path.")
    if os.path.isdir(name):
        raise UnreadableImage(f"{name!r} is a folder. Give the path of one image file.")
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{name!r} cannot be read ({error.strerror}). Check its permissions.") from error
    return _open(BytesIO(content), repr(name), os.path.basename(name))


def _open(stream: BytesIO, name: str, filename: str) -> Photo:
    try:
        with Image.open(stream) as image:
            return _finish(image, name, filename)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(_too_large(name)) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(
            f"{name} is not an image that can be read here. Save it as PNG, JPEG or WebP and try again."
        ) from error
    except UnreadableImage:
        raise
    except Exception as error:  # a broken file can raise anything from inside Pillow's decoders
        raise UnreadableImage(_damaged(name, error)) from error


def _finish(image: Image.Image, name: str, filename: str) -> Photo:
    """Decode, turn upright, bring to sRGB."""
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(_too_large(name))
    if min(image.size) < 1:
        raise UnreadableImage(f"{name} has no pixels. Choose another file.")
    if image.format in _VECTOR_FORMATS:
        raise UnreadableImage(f"{name} is a drawing ({image.format}). Export it as PNG and try again.")
    try:
        image.load()
    except Exception as error:  # a broken file can raise anything from inside Pillow's decoders
        raise UnreadableImage(_damaged(name, error)) from error
    turn = _UPRIGHT.get(_orientation(image))
    flat = _flatten(image)
    upright = flat.transpose(turn) if turn is not None else flat
    upright.info = {}  # what it said is done: whoever reads this image again must not turn or convert it again
    return Photo(upright, image.info.get("icc_profile"), image.info.get("exif"), filename)


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels. Scale it down and try again."


def _damaged(name: str, error: Exception) -> str:
    return f"{name} is damaged or incomplete ({error}). Save or download it again and retry."


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or the block is broken: the pixels are still good."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, UserWarning, struct.error):
        return 1


def _flatten(image: Image.Image) -> Image.Image:
    """RGB or RGBA, in sRGB; a new image."""
    profile = image.info.get("icc_profile")
    colour, alpha = _split_alpha(image)
    rgb = _to_srgb(colour, profile)
    if alpha is not None and alpha.getextrema() != (255, 255):
        rgb.putalpha(alpha)
    return rgb


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour without alpha, and alpha as L where any pixel can be transparent."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return _grey_of_depth(image), None
    if image.mode in ("LA", "La"):  # La: grey multiplied by its alpha
        grey = image.convert("LA")
        return grey.getchannel("L"), grey.getchannel("A")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode == "1":
        return image.convert("L"), None
    return (image.convert("RGB") if image.mode == "P" else image), None


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """To RGB, through the embedded profile where it is usable; always a new image.

    A profile that is broken or belongs to another kind of colour is left out: the picture is still worth reading.
    """
    if image.mode == "LAB":
        return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile and image.mode in ("L", "RGB", "CMYK"):
        try:
            embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(embedded).lower():
                return _converted(image, embedded)
        except (ImageCms.PyCMSError, OSError, ValueError):
            return image.convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    assert converted is not None  # None only in place
    return converted


def _grey_of_depth(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to L. I;16 is full range; I and F hold anything, so their values decide."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        values = values.astype(np.uint16)
    return Image.fromarray(_to_uint8(values))


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise UnreadableImage(
            f"An image array must be height x width, or height x width x 1, 2, 3 or 4 channels, not {array.shape}."
        )
    if array.size == 0:
        raise UnreadableImage("The image array has no pixels. Give one of at least 1 x 1.")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise UnreadableImage(_too_large("The image array"))
    return Image.fromarray(np.ascontiguousarray(_to_uint8(array)))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Any depth to 0..255. uint16 is full range; other integers and floats are taken by the values they hold."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
        raise UnreadableImage(f"An image array must hold numbers, not {values.dtype}. Use uint8, or floats in 0..1.")
    top = 65535.0 if values.dtype == np.uint16 else _white_level(values)
    return np.rint(np.clip(values.astype(np.float64) / top, 0, 1) * 255).astype(np.uint8)


def _white_level(values: np.ndarray) -> float:
    """The value that means white: 1 (floats only, with room for overshoot), 255, 65535, or the largest value."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UnreadableImage("The image holds values that are not numbers (NaN or infinity). Replace them first.")
    is_float = np.issubdtype(values.dtype, np.floating)
    if low < -0.25 * max(high, 1e-6) and is_float:
        raise UnreadableImage(f"The image holds values from {low:g} to {high:g}. Scale them to 0..1 first.")
    levels = ([1.5] if is_float else []) + [255.0, 65535.0]
    level = next((level for level in levels if high <= level), high)
    return 1.0 if level == 1.5 else level
