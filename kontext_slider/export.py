"""A sweep as a file that carries how it was made: GIF, WebP, MP4, PNG strip, ZIP of PNGs.

A file is written whole or not at all, and `read_metadata` finds in it again what `save_sweep` was told.
"""

from __future__ import annotations

import io
import json
import math
import os
import uuid
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from .animation import EXIF_DESCRIPTION, gif_bytes, mp4_bytes, webp_bytes
from .defaults import MAX_STRENGTH
from .errors import InvalidInput
from .xmp import xmp_text

ANIMATIONS = ("gif", "webp", "mp4")
FORMATS = (*ANIMATIONS, "png", "zip")
FPS = 10.0
FPS_RANGE = (0.1, 50.0)  # a GIF counts time in hundredths of a second, and viewers slow down anything under two
METADATA_KEY = "kontext_slider"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same sweep gives the same file

Frames = list[tuple[float, Image.Image]]


@dataclass(frozen=True)
class Look:
    """How a file shows its frames: frames per second, forward-and-back, lossless WebP, captions under a strip."""

    fps: float = FPS
    bounce: bool = False
    lossless: bool = False
    captions: bool = False


def save_sweep(
    frames: Iterable[tuple[float, Image.Image]],
    path: str | os.PathLike[str],
    *,
    instruction: str | None = None,
    seed: int | None = None,
    model: str | None = None,
    source: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    slider: str | None = None,
    fps: float | None = None,
    duration: float | None = None,
    bounce: bool = False,
    lossless: bool = False,
    captions: bool = False,
) -> Path:
    """Write the frames of one sweep to `path`, in the format of its suffix (one of `FORMATS`).

    frames: (strength in [0, 1.5], picture), all pictures of one size, in the order they are shown.
    instruction, seed, model, source, steps, guidance, slider: embedded in the file, each unless None; of `source`
        only the file name.
    fps or duration: frames per second (0.1 to 50, 10 by default), or seconds for the whole animation.
    bounce: the animation (gif, webp, mp4) runs forward and back.
    lossless: for webp, every pixel is kept. captions: for png, each frame's strength stands under it.

    Raises InvalidInput, with a sentence, for no frames, unequal sizes, a silly number, an unknown suffix, or a
    folder that cannot be written to; then nothing is left behind.
    """
    checked = _check_frames(frames)
    look = Look(_check_fps(fps, duration, _shown(len(checked), bounce)), bounce, lossless, captions)
    encode = ENCODERS[check_suffix(path, FORMATS)]
    metadata = describe(
        checked,
        instruction=instruction,
        seed=seed,
        model=model,
        slider=slider,
        source=source,
        steps=steps,
        guidance=guidance,
    )
    return write_whole(path, encode(checked, look, metadata))


def describe(frames: Frames, source: str | os.PathLike[str] | None = None, **origin: Any) -> dict[str, Any]:
    """What a file embeds: of `origin` what is not None, the source's bare file name, the frames' size and strengths."""
    told = {name: value for name, value in origin.items() if value is not None}
    if source is not None:
        told["source"] = Path(source).name
    return told | {"size": list(frames[0][1].size), "strengths": [strength for strength, _ in frames]}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_sweep` or `picture_file.save_picture` embedded in the file; InvalidInput when it holds none."""
    if not Path(path).is_file():
        raise InvalidInput(f"There is no file {path}. Check the path.")
    try:
        text = _embedded_text(path, Path(path).suffix.lower().removeprefix("."))
        metadata = json.loads(text)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} does not say how it was made: it is no file of kontext-slider.") from error
    return metadata


def check_suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    """The lower-case suffix of `path` without its dot; InvalidInput unless it is one of `known`."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        choices = ", ".join(f".{name}" for name in known)
        raise InvalidInput(f"{str(path)!r} names no format that can be written: end it in one of {choices}.")
    return suffix


def write_whole(path: str | os.PathLike[str], data: bytes | memoryview) -> Path:
    """Write `data` to `path` so that nobody ever sees half of it, whatever stops this process."""
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(f"Could not write {path} ({reason}): choose a folder that exists and has room.") from error
    finally:
        if part.parent.is_dir():
            part.unlink(missing_ok=True)
    return path


def _check_frames(frames: Iterable[tuple[float, Image.Image]]) -> Frames:
    checked = [(float(strength), picture.convert("RGB")) for strength, picture in frames]
    if not checked:
        raise InvalidInput("There are no frames to export: render at least one strength first.")
    if not all(0 <= strength <= MAX_STRENGTH for strength, _ in checked):
        raise InvalidInput(f"Every frame's strength must be a number from 0 to {MAX_STRENGTH}.")
    sizes = sorted({picture.size for _, picture in checked})
    if len(sizes) > 1:
        raise InvalidInput(f"All frames of an export must have one size, but these have {sizes}: use one session.")
    return checked


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


def _shown(count: int, bounce: bool) -> int:
    return max(count, 2 * count - 2) if bounce else count


def _in_order_shown(frames: Frames, bounce: bool) -> list[Image.Image]:
    pictures = [picture for _, picture in frames]
    return pictures + pictures[-2:0:-1] if bounce else pictures


def metadata_text(metadata: dict[str, Any]) -> str:
    """JSON in ASCII (it escapes the rest), as files embed it."""
    return json.dumps(metadata, sort_keys=True)


def png_text(text: str) -> PngInfo:
    """The chunk that holds `text` in a PNG file."""
    info = PngInfo()
    info.add_text(METADATA_KEY, text)
    return info


def _png_bytes(picture: Image.Image, info: PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _encode_gif(frames: Frames, look: Look, metadata: dict[str, Any]) -> bytes:
    return gif_bytes(_in_order_shown(frames, look.bounce), look.fps, metadata_text(metadata))


def _encode_webp(frames: Frames, look: Look, metadata: dict[str, Any]) -> bytes:
    return webp_bytes(_in_order_shown(frames, look.bounce), look.fps, metadata_text(metadata), look.lossless)


def _encode_mp4(frames: Frames, look: Look, metadata: dict[str, Any]) -> bytes:
    return mp4_bytes(_in_order_shown(frames, look.bounce), look.fps, metadata_text(metadata))


def _encode_strip(frames: Frames, look: Look, metadata: dict[str, Any]) -> bytes:
    width, height = frames[0][1].size
    font_size = max(10, height // 16)
    caption_height = 2 * font_size if look.captions else 0
    strip = Image.new("RGB", (width * len(frames), height + caption_height), "white")
    draw = ImageDraw.Draw(strip)
    for k, (strength, picture) in enumerate(frames):
        strip.paste(picture, (k * width, 0))
        if look.captions:
            middle = (k * width + width / 2, height + caption_height / 2)
            draw.text(middle, f"{strength:.2f}", "black", ImageFont.load_default(font_size), anchor="mm")
    return _png_bytes(strip, png_text(metadata_text(metadata)))


def _encode_zip(frames: Frames, look: Look, metadata: dict[str, Any]) -> bytes:
    names = [f"frame_{k:03d}_s{strength:.3f}.png" for k, (strength, _) in enumerate(frames)]
    listed = [{"file": name, "strength": strength} for name, (strength, _) in zip(names, frames, strict=True)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, (_, picture) in zip(names, frames, strict=True):
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), _png_bytes(picture))
        manifest = json.dumps(metadata | {"frames": listed}, indent=2)
        archive.writestr(zipfile.ZipInfo("manifest.json", ZIP_DATE), manifest)
    return buffer.getvalue()


ENCODERS: dict[str, Callable[[Frames, Look, dict[str, Any]], bytes]] = {
    "gif": _encode_gif,
    "webp": _encode_webp,
    "mp4": _encode_mp4,
    "png": _encode_strip,
    "zip": _encode_zip,
}


def _embedded_text(path: str | os.PathLike[str], suffix: str) -> str | bytes:
    if suffix == "zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read("manifest.json")
    if suffix == "mp4":
        with av.open(os.fspath(path)) as container:
            return container.metadata["comment"]
    with Image.open(path) as picture:
        if suffix == "gif":
            return picture.info["comment"]
        if suffix == "png":
            return picture.info[METADATA_KEY]
        packet = picture.info.get("xmp")  # sweeps and version 0.1 use the description of the EXIF block
        return xmp_text(packet) if packet else picture.getexif()[EXIF_DESCRIPTION]
