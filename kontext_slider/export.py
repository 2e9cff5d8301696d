"""A sweep as a file that carries how it was made: GIF, WebP, MP4, PNG strip, ZIP of PNGs.

A file is written whole or not at all, and `read_metadata` finds the facts in it that `save_sweep` was given. Pictures
come one at a time, so only a few are in memory at once.

Measured with Pillow 12.3.0: of two equal frames `save_all` keeps one, as GIF (unequal times, disposal, comments,
`optimize=False` change nothing) and as WebP (nor do unequal times, key frames, `allow_mixed`). So a sweep over a
strength without effect would lose frames; here Pillow compresses each frame, and only the containers are our own.

Sources: GIF89a specification (W3C), "WebP Container Specification" (Google), ITU-T H.273 for the colour tags.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from PIL import GifImagePlugin, Image, ImageChops

from .edit import MAX_STRENGTH, check_strengths
from .errors import InvalidInput
from .files import check_suffix, open_whole
from .images import MAX_PIXELS, Photo
from .metadata import MANIFEST_IN_ZIP, describe, exif_text, metadata_text, png_text
from .metadata import read_metadata as read_metadata  # what this module writes is read by it, too
from .photo.opener import open_unlimited

ANIMATIONS = ("gif", "webp", "mp4")
FORMATS = (*ANIMATIONS, "png", "zip")
FPS = 10.0
FPS_RANGE = (0.1, 50.0)  # a GIF counts time in hundredths of a second, and viewers slow down anything under two
MAX_SIDE = {"gif": 65_535, "webp": 16_383, "mp4": 16_384}  # pixels that the format can count
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same sweep gives the same file
PALETTE_COLORS = 256
PALETTE_SAMPLES = 50_000  # pixels, over all frames, that the shared GIF palette is fitted on
PALETTE_SETTLED = 300  # k-means ends when fewer samples than this change their colour; going on gains 0.05 dB
WEBP_QUALITY = 90
MAX_RIFF = 2**32 - 2  # bytes that the header of a WebP file can count
CRF = 16
X264_THREADS = 1  # a render goes on meanwhile and needs the processor; and the bytes are the same on every machine
X264 = "mbtree=0"  # its macroblock tree makes other bytes of equal frames now and then (benchmarks/LOG.md)

Frame = tuple[float, Image.Image]  # strength, picture
Pictures = Iterator[Image.Image]


def save_sweep(
    frames: Iterable[Frame],
    path: str | os.PathLike[str],
    *,
    strengths: Sequence[float] | None = None,
    instruction: str | None = None,
    seed: int | None = None,
    source: str | os.PathLike[str] | None = None,
    facts: Mapping[str, Any] | None = None,
    fps: float = FPS,
) -> Path:
    """Write the frames of one sweep to `path`, in the format of its suffix (one of `FORMATS`).

    frames: (strength in [0, 1.5], picture), all pictures of one size, in the order they are shown. What is transparent
        is laid over white, but in a zip.
    strengths: those of `frames`, where these are made one by one. Then each frame is written as it comes, and only a
        strip holds more than a few in memory. Without it, all frames are taken first.
    instruction, seed, source: embedded in the file, each unless None; of `source` only the file name.
    facts: more JSON values to embed, by name.
    fps: frames per second of an animation, 0.1 to 50.

    Raises InvalidInput, with a sentence, for no frames, unequal sizes, a silly number, an unknown suffix, a picture too
    large for the format, or a folder that cannot be written to (DiskError where it has no room); then nothing is left
    behind.
    """
    suffix = check_suffix(path, FORMATS)
    if strengths is None:
        frames = list(frames)
        strengths = [strength for strength, _ in frames]
    if not len(strengths):
        raise InvalidInput("There are no frames to export: render at least one strength first.")
    strengths = check_strengths(strengths, MAX_STRENGTH)
    low, high = FPS_RANGE
    if not low <= fps <= high:
        raise InvalidInput(f"An animation needs {low:g} to {high:g} frames per second, not {fps:g}.")
    pictures = _checked_pictures(frames, strengths, suffix)
    first = next(pictures)
    size, pictures = first.size, itertools.chain([first], pictures)
    del first  # it may be large
    given = {name: value for name, value in (("instruction", instruction), ("seed", seed)) if value is not None}
    metadata = describe(strengths, size, source, dict(facts or {}) | given)
    with open_whole(path) as file:
        ENCODERS[suffix](file, pictures, metadata, fps)
    return Path(path)


def is_whole(path: str | os.PathLike[str], num_frames: int) -> bool:
    """Whether all of a sweep's frames are in its file: they are decoded and counted."""
    try:
        return _count_frames(os.fspath(path), num_frames) == num_frames
    except Exception:  # a file that is cut short can break a decoder in any way
        return False


def _count_frames(path: str, num_frames: int) -> int:
    suffix = check_suffix(path, FORMATS)
    if suffix == "zip":
        with zipfile.ZipFile(path) as archive:
            return 0 if archive.testzip() else len(archive.namelist()) - 1  # without the manifest
    if suffix == "mp4":
        with av.open(path, format="mp4") as container:
            return sum(1 for _ in container.decode(video=0))
    with open(path, "rb") as file, open_unlimited(file) as picture:
        count = getattr(picture, "n_frames", 1)
        for number in range(count):
            picture.seek(number)
            picture.load()
        return num_frames if suffix == "png" else count


def _checked_pictures(frames: Iterable[Frame], strengths: list[float], suffix: str) -> Pictures:
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
        picture = frame[1].convert("RGBA") if frame[1].has_transparency_data else frame[1].convert("RGB")
        yield picture if suffix == "zip" else Photo(picture).on_white()


def _encode_gif(file: BinaryIO, pictures: Pictures, metadata: dict[str, Any], fps: float) -> None:
    """An endless loop, 256 colours shared by all frames: what does not change between frames stays still."""
    width, height = metadata["size"]
    num_frames = len(metadata["strengths"])
    # beside the result: the folder for temporary files is kept in memory on many systems
    with tempfile.TemporaryFile(dir=Path(file.name).parent) as spool:
        samples = []
        for picture in pictures:
            spool.write(picture.tobytes())
            # evenly spread; the step is odd so that it seldom falls in with the picture's columns
            step = -(-width * height * num_frames // PALETTE_SAMPLES) | 1
            samples.append(np.asarray(picture).reshape(-1, 3)[::step])
        pixels = Image.fromarray(np.concatenate(samples)[:, None])  # (N, 1, 3)
        palette = pixels.quantize(PALETTE_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=PALETTE_SETTLED)
        spool.seek(0)
        spooled = (Image.frombytes("RGB", (width, height), spool.read(3 * width * height)) for _ in range(num_frames))
        indexed = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in spooled)
        colors = bytes(palette.getpalette("RGB") or ()).ljust(3 * PALETTE_COLORS, b"\0")
        file.writelines([b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), colors])
        text = metadata_text(metadata).encode("ascii")
        blocks = (text[start : start + 255] for start in range(0, len(text), 255))
        comment = b"".join(bytes([len(block)]) + block for block in blocks)
        file.writelines([b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0", b"!\xfe", comment, b"\0"])
        for (frame, box), ticks in zip(_changes(indexed), _frame_times(num_frames, fps, 100), strict=True):
            file.writelines(GifImagePlugin.getdata(frame.crop(box), box[:2], duration=10 * ticks, disposal=1))
        file.write(b";")


def _changes(indexed: Pictures) -> Iterator[tuple[Image.Image, tuple[int, int, int, int]]]:
    """Each frame with the box that it changes of the one before, all of the first; one pixel where nothing changes."""
    before: Image.Image | None = None
    for frame in indexed:
        plane = Image.fromarray(np.asarray(frame))  # palette indices as greys
        changed = (0, 0, *frame.size) if before is None else ImageChops.difference(before, plane).getbbox()
        yield frame, changed or (0, 0, 1, 1)
        before = plane


def _frame_times(count: int, fps: float, ticks_per_second: int) -> list[int]:
    """Whole ticks for each frame, at least one; rounding does not add up over the sweep."""
    ends = [round(k * ticks_per_second / fps) for k in range(count + 1)]
    return [max(1, end - start) for start, end in itertools.pairwise(ends)]


def _encode_webp(file: BinaryIO, pictures: Pictures, metadata: dict[str, Any], fps: float) -> None:
    """An endless loop; every frame is whole, so that a viewer can jump to any."""
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in metadata["size"])
    animation_and_exif, no_blending = struct.pack("<I", 0x02 | 0x08), b"\x02"
    file.write(b"RIFF\0\0\0\0WEBP" + _chunk(b"VP8X", animation_and_exif + canvas) + _chunk(b"ANIM", b"\0" * 6))
    times = _frame_times(len(metadata["strengths"]), fps, 1000)
    for picture, milliseconds in zip(pictures, times, strict=True):
        still = io.BytesIO()
        picture.save(still, format="WEBP", quality=WEBP_QUALITY, method=4)
        header = b"\0" * 6 + canvas + milliseconds.to_bytes(3, "little") + no_blending
        file.write(_chunk(b"ANMF", header + still.getvalue()[12:]))  # without RIFF, its size and WEBP
    file.write(_chunk(b"EXIF", exif_text(metadata_text(metadata)).tobytes().removeprefix(b"Exif\0\0")))
    num_bytes = file.tell() - 8
    if num_bytes > MAX_RIFF:
        raise InvalidInput(
            "The animation is larger than a .webp file can be (4 GiB): take fewer frames or a smaller width."
        )
    file.seek(4)
    file.write(struct.pack("<I", num_bytes))


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _encode_mp4(file: BinaryIO, pictures: Pictures, metadata: dict[str, Any], fps: float) -> None:
    """H.264 that every browser plays (yuv420p, BT.709); odd sides grow by a repeated row or column.

    It goes to the file's path, as FFmpeg opens it a second time to put the index before the frames: so a browser starts
    to play before it has the whole file.
    """
    odd = [side % 2 for side in metadata["size"]]
    with av.open(file.name, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = metadata_text(metadata)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.options = {"crf": str(CRF), "preset": "medium", "x264-params": X264}
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (side + side % 2 for side in metadata["size"])
        context = stream.codec_context
        context.thread_count = X264_THREADS
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for picture in pictures:
            pixels = np.pad(np.asarray(picture), ((0, odd[1]), (0, odd[0]), (0, 0)), mode="edge")  # (H, W, 3)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _encode_strip(file: BinaryIO, pictures: Pictures, metadata: dict[str, Any], fps: float) -> None:
    (width, height), count = metadata["size"], len(metadata["strengths"])
    if width * height * count > MAX_PIXELS:
        raise InvalidInput(
            f"A strip of {count} pictures of {width}x{height} has more pixels than programs open: "
            "choose the format zip, or fewer or smaller pictures."
        )
    strip = Image.new("RGB", (width * count, height))
    for k, picture in enumerate(pictures):
        strip.paste(picture, (k * width, 0))
    strip.save(file, format="PNG", pnginfo=png_text(metadata_text(metadata)))


def _encode_zip(file: BinaryIO, pictures: Pictures, metadata: dict[str, Any], fps: float) -> None:
    listed = [
        {"file": f"frame_{k:03d}_s{strength:.3f}.png", "strength": strength}
        for k, strength in enumerate(metadata["strengths"])
    ]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, picture in zip(listed, pictures, strict=True):
            with archive.open(zipfile.ZipInfo(entry["file"], ZIP_DATE), "w") as member:
                picture.save(member, format="PNG")
        manifest = json.dumps(metadata | {"frames": listed}, indent=2)
        archive.writestr(zipfile.ZipInfo(MANIFEST_IN_ZIP, ZIP_DATE), manifest)


ENCODERS: dict[str, Callable[[BinaryIO, Pictures, dict[str, Any], float], None]] = {
    "gif": _encode_gif,
    "webp": _encode_webp,
    "mp4": _encode_mp4,
    "png": _encode_strip,
    "zip": _encode_zip,
}
