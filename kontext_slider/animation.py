"""Moving pictures: GIF, WebP and MP4 that hold every frame they are given, the identical ones too.

Measured with Pillow 12.3.0: of two equal frames `save_all` keeps one, as GIF (unequal times, disposal, comments,
`optimize=False` change nothing) and as WebP (nor do unequal times, key frames, `allow_mixed`). So a sweep over a
strength without effect would lose frames; here Pillow compresses each frame, and only the containers are our own.

Sources: GIF89a specification (W3C), "WebP Container Specification" (Google), ITU-T H.273 for the colour tags.
Every writer takes a file that is open for writing and reading, equally large RGB pictures one at a time, frames per
second and a text to embed. Only a few pictures are in memory at once.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import IO, BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from PIL import GifImagePlugin, Image, ImageChops

from .errors import InvalidInput
from .metadata import exif_text

PALETTE_COLORS = 256
PALETTE_SAMPLES = 50_000  # pixels, over all frames, that the shared GIF palette is fitted on
PALETTE_SETTLED = 300  # k-means ends when fewer samples than this change their colour; going on gains 0.05 dB
WEBP_QUALITY = 90
MAX_RIFF = 2**32 - 2  # bytes that the header of a WebP file can count
CRF = 16
X264_THREADS = 1  # a render goes on meanwhile and needs the processor; and the bytes are the same on every machine
X264 = "mbtree=0"  # its macroblock tree makes other bytes of equal frames now and then (benchmarks/LOG.md)


class Spool:
    """Pictures of one size in a file, numbered as they are added: those of a long sweep do not fit in memory together.

    file: empty, open for writing and reading, the caller's to close. Pictures are RGB.
    """

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._count = 0
        self._size = (0, 0)

    def __len__(self) -> int:
        return self._count

    def add(self, picture: Image.Image) -> None:
        """Keep one more picture."""
        self._size = picture.size
        self._file.seek(self._count * self._num_bytes)
        self._file.write(picture.tobytes())
        self._count += 1

    def __getitem__(self, number: int) -> Image.Image:
        self._file.seek(number * self._num_bytes)
        return Image.frombytes("RGB", self._size, self._file.read(self._num_bytes))

    @property
    def _num_bytes(self) -> int:
        return 3 * self._size[0] * self._size[1]


def there_and_back(frames: Iterable[Image.Image], spool: Spool) -> Iterator[Image.Image]:
    """The frames as they come, then backwards without the last and the first, which a loop shows anyway."""
    for frame in frames:
        spool.add(frame)
        yield frame
    for number in range(len(spool) - 2, 0, -1):
        yield spool[number]


def write_gif(file: BinaryIO, frames: Spool, shown: list[int], fps: float, text: str) -> None:
    """An endlessly looping GIF, 256 colours shared by all frames: what does not change between frames stays still.

    shown: numbers of frames, in the order they are shown. All frames are looked at before the first is written.
    """
    palette = shared_palette(frames)
    indexed = (frames[number].quantize(palette=palette, dither=Image.Dither.NONE) for number in shown)
    colors = bytes(palette.getpalette("RGB") or ()).ljust(3 * PALETTE_COLORS, b"\0")
    file.writelines([b"GIF89a", struct.pack("<HHBBB", *frames[0].size, 0xF7, 0, 0), colors])
    file.writelines([b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0", b"!\xfe", *_sub_blocks(text.encode("ascii")), b"\0"])
    times = frame_times(len(shown), fps, 100)
    for (frame, box), ticks in zip(_changes(indexed), times, strict=True):
        file.writelines(GifImagePlugin.getdata(frame.crop(box), box[:2], duration=10 * ticks, disposal=1))
    file.write(b";")


def shared_palette(frames: Spool) -> Image.Image:
    """A palette image of at most 256 colours: median cut, then k-means, on evenly sampled pixels of all frames."""
    share = max(1, PALETTE_SAMPLES // len(frames))
    pictures = (frames[number] for number in range(len(frames)))
    samples = [_sampled(np.asarray(frame).reshape(-1, 3), share) for frame in pictures]  # each (share or less, 3)
    pixels = np.concatenate(samples)[:, None]  # (N, 1, 3)
    return Image.fromarray(pixels).quantize(PALETTE_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=PALETTE_SETTLED)


def _sampled(pixels: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spread; the step is odd so that it seldom falls in with the picture's columns."""
    return pixels[:: max(1, -(-len(pixels) // count)) | 1]


def _sub_blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 255):
        block = data[start : start + 255]
        yield bytes([len(block)]) + block


def _changes(indexed: Iterable[Image.Image]) -> Iterator[tuple[Image.Image, tuple[int, int, int, int]]]:
    """Each frame with the box that it changes of the one before, all of the first; one pixel where nothing changes."""
    before: Image.Image | None = None
    for frame in indexed:
        plane = Image.fromarray(np.asarray(frame))  # palette indices as greys
        changed = (0, 0, *frame.size) if before is None else ImageChops.difference(before, plane).getbbox()
        yield frame, changed or (0, 0, 1, 1)
        before = plane


def frame_times(count: int, fps: float, ticks_per_second: int) -> list[int]:
    """Whole ticks for each frame, at least one; rounding does not add up over the sweep."""
    ends = [round(k * ticks_per_second / fps) for k in range(count + 1)]
    return [max(1, end - start) for start, end in pairwise(ends)]


def write_webp(
    file: BinaryIO, frames: Iterable[Image.Image], times: list[int], text: str, lossless: bool = False
) -> None:
    """An endlessly looping WebP; every frame is whole, so that a viewer can jump to any. times: milliseconds each."""
    riff = file.tell()
    file.write(b"RIFF\0\0\0\0WEBP")
    for number, (frame, milliseconds) in enumerate(zip(frames, times, strict=True)):
        canvas = _uint24(frame.width - 1) + _uint24(frame.height - 1)
        if number == 0:
            animation_and_exif = struct.pack("<I", 0x02 | 0x08)
            file.write(_chunk(b"VP8X", animation_and_exif + canvas) + _chunk(b"ANIM", struct.pack("<IH", 0, 0)))
        no_blending = b"\x02"
        header = _uint24(0) + _uint24(0) + canvas + _uint24(milliseconds) + no_blending
        file.write(_chunk(b"ANMF", header + _still_webp_chunk(frame, lossless)))
    file.write(_chunk(b"EXIF", exif_text(text).tobytes().removeprefix(b"Exif\0\0")))
    num_bytes = file.tell() - riff - 8
    if num_bytes > MAX_RIFF:
        raise InvalidInput(
            "The animation is larger than a .webp file can be (4 GiB): take fewer frames or a smaller width."
        )
    file.seek(riff + 4)
    file.write(struct.pack("<I", num_bytes))


def _still_webp_chunk(frame: Image.Image, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, format="WEBP", lossless=lossless, quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()[12:]  # without RIFF, its size and WEBP: one VP8 or VP8L chunk is left


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _uint24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def write_mp4(path: str | os.PathLike[str], frames: Iterable[Image.Image], fps: float, text: str) -> None:
    """An H.264 video that every browser plays (yuv420p, BT.709); odd sides grow by a repeated row or column.

    It goes to a path, as FFmpeg opens the file a second time to put the index before the frames: so a browser starts
    to play before it has the whole file.
    """
    with av.open(os.fspath(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = text
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        for number, frame in enumerate(frames):
            if number == 0:
                _set_up(stream, frame.size)
            container.mux(stream.encode(_video_frame(frame)))
        container.mux(stream.encode())


def _set_up(stream: av.VideoStream, size: tuple[int, int]) -> None:
    stream.options = {"crf": str(CRF), "preset": "medium", "x264-params": X264}
    stream.pix_fmt = "yuv420p"
    stream.width, stream.height = (side + side % 2 for side in size)
    context = stream.codec_context
    context.thread_count = X264_THREADS
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def _video_frame(frame: Image.Image) -> av.VideoFrame:
    pixels = np.asarray(frame)  # (H, W, 3)
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
    )
