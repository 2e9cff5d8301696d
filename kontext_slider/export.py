"""A sweep as a file that carries how it was made: GIF, WebP, MP4, PNG strip, ZIP of PNGs.

A file is written whole or not at all, and `read_metadata` finds the facts in it that `save_sweep` was given.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from PIL import Image, ImageDraw, ImageFont

from .animation import Spool, frame_times, there_and_back, write_gif, write_mp4, write_webp
from .edit import MAX_STRENGTH, check_strengths
from .errors import InvalidInput
from .files import check_suffix, open_whole
from .images import MAX_PIXELS, Photo
from .metadata import MANIFEST_IN_ZIP, describe, metadata_text, png_text
from .metadata import read_metadata as read_metadata  # what this module writes is read by it, too

ANIMATIONS = ("gif", "webp", "mp4")
FORMATS = (*ANIMATIONS, "png", "zip")
FPS = 10.0
FPS_RANGE = (0.1, 50.0)  # a GIF counts time in hundredths of a second, and viewers slow down anything under two
MAX_SIDE = {"gif": 65_535, "webp": 16_383, "mp4": 16_384}  # pixels that the format can count
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same sweep gives the same file

Frame = tuple[float, Image.Image]  # strength, picture


@dataclass(frozen=True)
class Look:
    """How a file shows its frames: frames per second, forward-and-back, lossless WebP, captions under a strip."""

    fps: float = FPS
    bounce: bool = False
    lossless: bool = False
    captions: bool = False


def save_sweep(
    frames: Iterable[Frame],
    path: str | os.PathLike[str],
    *,
    strengths: Sequence[float] | None = None,
    instruction: str | None = None,
    seed: int | None = None,
    model: str | None = None,
    source: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    slider: str | None = None,
    facts: Mapping[str, Any] | None = None,
    fps: float | None = None,
    duration: float | None = None,
    bounce: bool = False,
    lossless: bool = False,
    captions: bool = False,
) -> Path:
    """Write the frames of one sweep to `path`, in the format of its suffix (one of `FORMATS`).

    frames: (strength in [0, 1.5], picture), all pictures of one size, in the order they are shown. What is transparent
        is laid over white, but in a zip.
    strengths: those of `frames`, where these are made one by one. Then each frame is written as it comes, and only a
        strip holds more than a few in memory. Without it, all frames are taken first.
    instruction, seed, model, source, steps, guidance, slider: embedded in the file, each unless None; of `source`
        only the file name. facts: more JSON values to embed, by name.
    fps or duration: frames per second (0.1 to 50, 10 by default), or seconds for the whole animation.
    bounce: the animation (gif, webp, mp4) runs forward and back.
    lossless: for webp, every pixel is kept. captions: for png, each frame's strength stands under it.

    Raises InvalidInput, with a sentence, for no frames, unequal sizes, a silly number, an unknown suffix, a picture too
    large for the format, or a folder that cannot be written to (DiskError where it has no room); then nothing is left
    behind.
    """
    suffix = check_suffix(path, FORMATS)
    if strengths is None:
        frames = list(frames)
        strengths = [strength for strength, _ in frames]
    strengths = _check_strengths(strengths)
    look = Look(_check_fps(fps, duration, num_shown(len(strengths), bounce)), bounce, lossless, captions)
    pictures = _checked_pictures(frames, strengths, suffix)
    first = next(pictures)
    size, pictures = first.size, itertools.chain([first], pictures)
    del first  # it may be large
    origin = {"instruction": instruction, "seed": seed, "model": model, "slider": slider, "steps": steps}
    given = {name: value for name, value in (origin | {"guidance": guidance}).items() if value is not None}
    metadata = describe(strengths, size, source, dict(facts or {}) | given)
    with open_whole(path) as file:
        ENCODERS[suffix](file, pictures, look, metadata)
    return Path(path)


def num_shown(num_frames: int, bounce: bool) -> int:
    """How many frames an animation shows before it starts again."""
    return max(num_frames, 2 * num_frames - 2) if bounce else num_frames


def _check_strengths(strengths: Iterable[float]) -> list[float]:
    strengths = list(strengths)
    if not strengths:
        raise InvalidInput("There are no frames to export: render at least one strength first.")
    return check_strengths(strengths, MAX_STRENGTH)


def _checked_pictures(frames: Iterable[Frame], strengths: list[float], suffix: str) -> Iterator[Image.Image]:
    """The pictures one by one, in the mode that `suffix` takes. InvalidInput unless they are those of `strengths`, and
    all of one size that the format can hold."""
    size: tuple[int, int] | None = None
    for strength, frame in itertools.zip_longest(strengths, frames, fillvalue=None):
        if strength is None or frame is None or float(frame[0]) != strength:
            raise InvalidInput("The frames of an export must be those of its strengths, in the same order.")
        size = size or frame[1].size
        if frame[1].size != size:
            raise InvalidInput(
                f"All frames of an export must have one size, but these have {[size, frame[1].size]}: use one session."
            )
        if max(size) > MAX_SIDE.get(suffix, max(size)):
            raise InvalidInput(
                f"A .{suffix} file holds at most {MAX_SIDE[suffix]} pixels a side, not {size[0]}x{size[1]}: "
                "choose a smaller width, or the format zip."
            )
        yield _in_mode(frame[1], keeps_alpha=suffix == "zip")


def _in_mode(picture: Image.Image, keeps_alpha: bool) -> Image.Image:
    if picture.mode == "RGB" or (picture.mode == "RGBA" and keeps_alpha):
        return picture
    return Photo(picture.convert("RGBA")).on_white() if picture.has_transparency_data else picture.convert("RGB")


def _check_fps(fps: float | None, duration: float | None, shown: int) -> float:
    if fps is not None and duration is not None:
        raise InvalidInput("Give fps or duration, not both: one follows from the other.")
    if duration is not None:
        fps = shown / duration if duration > 0 else math.nan
    fps = FPS if fps is None else float(fps)
    low, high = FPS_RANGE
    if not low <= fps <= high:
        raise InvalidInput(f"An animation needs {low:g} to {high:g} frames per second, not {fps:g}.")
    return fps


def _png_bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


Pictures = Iterator[Image.Image]


def _encode_gif(file: BinaryIO, pictures: Pictures, look: Look, metadata: dict[str, Any]) -> None:
    with _beside(file) as pixels:
        spool = Spool(pixels)
        for picture in pictures:
            spool.add(picture)
        numbers = list(range(len(spool)))
        shown = numbers + numbers[-2:0:-1] if look.bounce else numbers
        write_gif(file, spool, shown, look.fps, metadata_text(metadata))


def _encode_webp(file: BinaryIO, pictures: Pictures, look: Look, metadata: dict[str, Any]) -> None:
    times = frame_times(num_shown(len(metadata["strengths"]), look.bounce), look.fps, 1000)
    with _beside(file) as pixels:
        shown = there_and_back(pictures, Spool(pixels)) if look.bounce else pictures
        write_webp(file, shown, times, metadata_text(metadata), look.lossless)


def _encode_mp4(file: BinaryIO, pictures: Pictures, look: Look, metadata: dict[str, Any]) -> None:
    with _beside(file) as pixels:
        shown = there_and_back(pictures, Spool(pixels)) if look.bounce else pictures
        write_mp4(file.name, shown, look.fps, metadata_text(metadata))


def _beside(file: BinaryIO) -> IO[bytes]:
    """A nameless file in the result's folder: the one for temporary files is kept in memory on many systems."""
    return tempfile.TemporaryFile(dir=Path(file.name).parent)


def _encode_strip(file: BinaryIO, pictures: Pictures, look: Look, metadata: dict[str, Any]) -> None:
    (width, height), strengths = metadata["size"], metadata["strengths"]
    font_size = max(10, height // 16)
    caption_height = 2 * font_size if look.captions else 0
    size = width * len(strengths), height + caption_height
    if size[0] * size[1] > MAX_PIXELS:
        raise InvalidInput(
            f"A strip of {len(strengths)} pictures of {width}x{height} has more pixels than programs open: "
            "choose the format zip, or fewer or smaller pictures."
        )
    strip = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(strip)
    for k, (strength, picture) in enumerate(zip(strengths, pictures, strict=True)):
        strip.paste(picture, (k * width, 0))
        if look.captions:
            middle = (k * width + width / 2, height + caption_height / 2)
            draw.text(middle, f"{strength:.2f}", "black", ImageFont.load_default(font_size), anchor="mm")
    strip.save(file, format="PNG", pnginfo=png_text(metadata_text(metadata)))


def _encode_zip(file: BinaryIO, pictures: Pictures, look: Look, metadata: dict[str, Any]) -> None:
    listed = [
        {"file": f"frame_{k:03d}_s{strength:.3f}.png", "strength": strength}
        for k, strength in enumerate(metadata["strengths"])
    ]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, picture in zip(listed, pictures, strict=True):
            archive.writestr(zipfile.ZipInfo(entry["file"], ZIP_DATE), _png_bytes(picture))
        manifest = json.dumps(metadata | {"frames": listed}, indent=2)
        archive.writestr(zipfile.ZipInfo(MANIFEST_IN_ZIP, ZIP_DATE), manifest)


ENCODERS: dict[str, Callable[[BinaryIO, Pictures, Look, dict[str, Any]], None]] = {
    "gif": _encode_gif,
    "webp": _encode_webp,
    "mp4": _encode_mp4,
    "png": _encode_strip,
    "zip": _encode_zip,
}
