"""Any picture a person hands over becomes 8-bit sRGB, upright, on white, at a size the model can work on.

Legend: H, W height and width in pixels; sizes are (width, height), as Pillow gives them.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .edit import EarlierEdit, check_size
from .errors import InvalidInput, UnreadableImage
from .files import read_regular
from .photo.colour import to_srgb
from .photo.colour_tags import ColourTags, read_colour_tags
from .photo.depth import grey_of_depth, image_of_array, is_deep
from .photo.exif import exif_of_tiff
from .photo.limits import MAX_FILE, check_cost, check_pixels, decoding
from .photo.limits import MAX_PIXELS as MAX_PIXELS  # that of exports, too
from .photo.opener import develop, is_raw, open_unlimited

ImageLike = str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray

MIN_SIDE = 8  # pixels; below that there is nothing to edit
MAX_ASPECT = 64  # longer side over shorter side

_VECTOR_FORMATS = {"EPS", "WMF"}  # Pillow hands these to other programs to draw
_EXIF_ORIENTATION = 0x0112
_DNG_VERSION, _IPTC_TAG = 50706, 33723  # of TIFF
_IPTC_RESOURCE = 0x0404  # of Photoshop, in JPEG
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
    other_metadata: names of what else the file holds and a result never keeps: "XMP", "IPTC".
    earlier_edits: those that made `image` of the photograph called `name`, the first one first.
    sha256: of the file's bytes, in hexadecimal; "" where it was no file.
    """

    image: Image.Image
    icc_profile: bytes | None = None
    exif: bytes | None = None
    name: str = ""
    other_metadata: tuple[str, ...] = ()
    earlier_edits: tuple[EarlierEdit, ...] = ()
    sha256: str = ""

    def after(self, edit: EarlierEdit, image: Image.Image) -> Photo:
        """The photograph after one more edit, which made `image` of it; all that saving keeps is kept."""
        return replace(self, image=image, earlier_edits=(*self.earlier_edits, edit))

    def on_white(self) -> Image.Image:
        """The picture as RGB, what is transparent laid over white; `image` itself where nothing is transparent, as a
        large photograph is not copied for nothing: copy it before you change it."""
        if self.image.mode == "RGB":
            return self.image
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
    channels; uint8, uint16, bool, other integers, or floats in 0..1). EXIF rotation is applied, colours are converted
    to sRGB as a browser shows them (profiles, gamma, Display P3, HDR), 16-bit and float grey are scaled to 8 bits, raw
    photographs are developed, and of an animation the first frame is taken. A PIL image or array of the caller is never
    changed; an open PNG or AVIF does not tell its code points (cICP, nclx), so give the file where it may have some.

    Raises UnreadableImage, with a sentence that names the file and says what to do.
    """
    if isinstance(source, np.ndarray):
        check_pixels(math.prod(source.shape[:2]), "The image array")
        with decoding("The image array"):
            image = image_of_array(source)
            return _finished(Photo(image), ColourTags(), "The image array")
    if isinstance(source, Image.Image):
        return _of_image(source)
    if isinstance(source, bytes | bytearray):
        return _open(bytes(source), "The image data", "")
    if not isinstance(source, str | os.PathLike):
        kind = type(source).__name__
        raise UnreadableImage(f"An image must be a path, a file's bytes, a PIL image or a numpy array, not {kind}.")
    return _open(read_regular(source, MAX_FILE, UnreadableImage), repr(os.fspath(source)), os.path.basename(source))


def read_stored(path: str | os.PathLike[str], name: str, side: int) -> Image.Image:
    """A picture file's values as they are stored, upright, no colour converted. A JPEG may come at a half, a quarter or
    an eighth of its size, both sides at least `side` where the file's are. Raises UnreadableImage about `name`."""
    content = read_regular(path, MAX_FILE, UnreadableImage, name)
    with decoding(name), open_unlimited(content) as image:
        check_pixels(image.width * image.height, name)
        image.draft(None, (side, side))
        return _plain(_decoded(image, name, len(content)))


def working_size(size_of_source: tuple[int, int], size: int, multiple: int) -> tuple[int, int]:
    """The (width, height) at which a source is edited.

    Both sides are multiples of `multiple`, the area is about `size`**2, and the aspect ratio is as close to the
    source's as such sides allow. `size` is in pixels, from `multiple` to 2048.

    Raises InvalidInput for a size no model can use and for a strip longer than 64 times its other side.
    """
    size = check_size(size, multiple)
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
    return fitted(image, working_size(image.size, size, multiple))


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole of `image` (RGB) at `size` (width, height). Raises UnreadableImage for a picture of a few pixels."""
    if min(image.size) < MIN_SIDE:
        raise UnreadableImage(
            f"The image is {image.width} x {image.height} pixels, too small to edit. "
            f"Choose one of at least {MIN_SIDE} pixels on each side."
        )
    return image.resize(size, Image.Resampling.LANCZOS)


def _best_sides(aspect: float, size: int, multiple: int) -> tuple[int, int]:
    """(short, long) in pixels: the aspect ratio weighs twice as much as the area, both as log-ratios."""

    def cost(sides: tuple[int, int]) -> float:
        short, long = sides
        return abs(math.log(long / short / aspect)) + 0.5 * abs(math.log(long * short / size**2))

    ideal = size / math.sqrt(aspect) / multiple
    candidates = [
        (short * multiple, max(short, round(long)) * multiple)
        for short in (max(1, math.floor(ideal)), math.ceil(ideal))
        for long in (short * aspect, size * size / (short * multiple**2))
    ]
    return min((sides for sides in candidates if math.prod(sides) <= 1.6 * size**2), key=cost)


def _open(content: bytes, name: str, filename: str) -> Photo:
    """A file as a photograph; `name` is what sentences call it."""
    sha256 = hashlib.sha256(content).hexdigest()
    with decoding(name):
        if is_raw(content, filename):
            return Photo(develop(content, name), None, exif_of_tiff(content), filename, sha256=sha256)
        with open_unlimited(content) as image:
            upright = _plain(_decoded(image, name, len(content)))  # first, as a PNG may have tags behind its pixels
            tags = read_colour_tags(image, content)
            exif = exif_of_tiff(content) if image.format == "TIFF" else image.info.get("exif")
            photo = Photo(upright, None, exif, filename, _other_metadata(image), sha256=sha256)
        del image, upright, content  # 100 megapixels are 400 MB
        return _finished(photo, tags, name)


def _of_image(image: Image.Image) -> Photo:
    """A caller's image, which stays as it is."""
    path = os.fspath(getattr(image, "filename", "") or "")
    name = repr(path) if path else "The image"
    with decoding(name):
        if _DNG_VERSION in getattr(image, "tag_v2", {}):
            raise UnreadableImage(f"{name} is only the thumbnail of a raw photograph. Give the path of the file.")
        upright = _decoded(image, name, 0)
        upright = image.copy() if upright is image else upright
        photo = Photo(upright, None, image.info.get("exif"), os.path.basename(path), _other_metadata(image))
        return _finished(photo, read_colour_tags(image), name)


def _decoded(image: Image.Image, name: str, num_bytes: int) -> Image.Image:
    """Decode and turn upright: the image itself where it is upright. num_bytes: of its file."""
    behind = image.format == "PNG" and "exif" not in image.info  # it may stand behind the pixels, or nowhere
    check_cost(image, num_bytes, name, not behind and _orientation(image) in _UPRIGHT)
    if min(image.size) < 1:
        raise UnreadableImage(f"{name} has no pixels. Choose another file.")
    if image.format in _VECTOR_FORMATS:
        raise UnreadableImage(f"{name} is a drawing ({image.format}). Export it as PNG and try again.")
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    check_cost(image, num_bytes, name, turn is not None)
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """The same pixels without the file and the decoder that they come from, which keep memory."""
    return image._new(image.im)


def _finished(photo: Photo, tags: ColourTags, name: str) -> Photo:
    """`photo` in sRGB, with alpha where it is needed. What the image said of itself is done: whoever reads the result
    again must not turn or convert it again."""
    colour, alpha = _split_alpha(photo.image)
    rgb, own_profile = to_srgb(colour, tags, name)
    rgb.info = {}
    if alpha is not None:
        rgb.putalpha(alpha)
    return replace(photo, image=rgb, icc_profile=own_profile)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or the block is broken: the pixels are still good."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, UserWarning, struct.error):
        return 1


def _other_metadata(image: Image.Image) -> tuple[str, ...]:
    """Names of what else the file holds about the photograph."""
    has_xmp = "xmp" in image.info or "XML:com.adobe.xmp" in image.info
    has_iptc = _IPTC_RESOURCE in image.info.get("photoshop", {}) or _IPTC_TAG in getattr(image, "tag_v2", {})
    return ("XMP",) * has_xmp + ("IPTC",) * has_iptc


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour without alpha, and alpha as L where a pixel is transparent."""
    if is_deep(image):
        return grey_of_depth(image), None
    if image.mode == "1":
        return image.convert("L"), None
    if not image.has_transparency_data and image.mode not in ("LA", "La"):
        return (image.convert("RGB") if image.mode == "P" else image), None
    grey = image.mode in ("LA", "La")  # La: grey multiplied by its alpha
    whole = image.convert("LA" if grey else "RGBA") if image.mode not in ("LA", "RGBA") else image
    alpha = whole.getchannel("A")
    colour = whole.getchannel("L") if grey else whole.convert("RGB")
    return colour, None if alpha.getextrema() == (255, 255) else alpha
