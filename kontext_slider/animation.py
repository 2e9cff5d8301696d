"""Moving pictures as bytes: GIF, WebP and MP4 that hold every frame they are given, the identical ones too.

Pillow (GIF) and libwebp (WebP) drop a frame that equals the one before and lengthen its time instead, so that a
sweep over a strength without effect reads back with fewer frames than it has strengths. The containers are therefore
put together here, frame by frame; the pixels are compressed by Pillow and PyAV.

Sources: GIF89a specification (W3C), "WebP Container Specification" (Google), ITU-T H.273 for the colour tags.
Every function takes equally large RGB pictures, frames per second and a text to embed.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from PIL import GifImagePlugin, Image, ImageChops

EXIF_DESCRIPTION = 0x010E
PALETTE_COLORS = 256
PALETTE_SAMPLES = 50_000  # pixels, over all frames, that the shared GIF palette is fitted on
PALETTE_SETTLED = 300  # k-means ends when fewer samples than this change their colour; going on gains 0.05 dB
CRF = 16
X264 = "mbtree=0"  # its macroblock tree makes other bytes of equal frames now and then (benchmarks/LOG.md)


def gif_bytes(frames: list[Image.Image], fps: float, text: str) -> bytes:
    """An endlessly looping GIF, 256 colours shared by all frames: what does not change between frames stays still."""
    palette = shared_palette(frames)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    colors = bytes(palette.getpalette("RGB") or ()).ljust(3 * PALETTE_COLORS, b"\0")
    parts = [b"GIF89a", struct.pack("<HHBBB", *frames[0].size, 0xF7, 0, 0), colors]
    parts += [b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0", b"!\xfe", *_sub_blocks(text.encode("ascii")), b"\0"]
    times = frame_times(len(frames), fps, 100)
    for frame, box, ticks in zip(indexed, _change_boxes(indexed), times, strict=True):
        parts += GifImagePlugin.getdata(frame.crop(box), box[:2], duration=10 * ticks, disposal=1)
    return b"".join([*parts, b";"])


def shared_palette(frames: list[Image.Image]) -> Image.Image:
    """A palette image of at most 256 colours: median cut, then k-means, on evenly sampled pixels of all frames."""
    share = max(1, PALETTE_SAMPLES // len(frames))
    samples = [_sampled(np.asarray(frame).reshape(-1, 3), share) for frame in frames]  # each (share or less, 3)
    pixels = np.concatenate(samples)[:, None]  # (N, 1, 3)
    return Image.fromarray(pixels).quantize(PALETTE_COLORS, method=Image.Quantize.MEDIANCUT, kmeans=PALETTE_SETTLED)


def _sampled(pixels: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spread; the step is odd so that it seldom falls in with the picture's columns."""
    return pixels[:: max(1, -(-len(pixels) // count)) | 1]


def _sub_blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 255):
        block = data[start : start + 255]
        yield bytes([len(block)]) + block


def _change_boxes(indexed: list[Image.Image]) -> list[tuple[int, int, int, int]]:
    """What each frame changes of the one before, all of the first; one pixel where nothing changes."""
    planes = [Image.fromarray(np.asarray(frame)) for frame in indexed]  # palette indices as greys
    boxes = [ImageChops.difference(before, after).getbbox() for before, after in pairwise(planes)]
    return [(0, 0, *indexed[0].size), *(box or (0, 0, 1, 1) for box in boxes)]


def frame_times(count: int, fps: float, ticks_per_second: int) -> list[int]:
    """Whole ticks for each frame, at least one; rounding does not add up over the sweep."""
    ends = [round(k * ticks_per_second / fps) for k in range(count + 1)]
    return [max(1, end - start) for start, end in pairwise(ends)]


def webp_bytes(frames: list[Image.Image], fps: float, text: str, lossless: bool = False, quality: int = 90) -> bytes:
    """An endlessly looping WebP; every frame is whole, so that a viewer can jump to any."""
    width, height = frames[0].size
    canvas = _uint24(width - 1) + _uint24(height - 1)
    animation_and_exif = struct.pack("<I", 0x02 | 0x08)
    chunks = [_chunk(b"VP8X", animation_and_exif + canvas), _chunk(b"ANIM", struct.pack("<IH", 0, 0))]
    for frame, milliseconds in zip(frames, frame_times(len(frames), fps, 1000), strict=True):
        no_blending = b"\x02"
        header = _uint24(0) + _uint24(0) + canvas + _uint24(milliseconds) + no_blending
        chunks.append(_chunk(b"ANMF", header + _still_webp_chunk(frame, lossless, quality)))
    chunks.append(_chunk(b"EXIF", exif_text(text).tobytes().removeprefix(b"Exif\0\0")))
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def exif_text(text: str) -> Image.Exif:
    """EXIF data with `text` (ASCII) as the picture's description."""
    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = text
    return exif


def _still_webp_chunk(frame: Image.Image, lossless: bool, quality: int) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=4)
    return buffer.getvalue()[12:]  # without RIFF, its size and WEBP: one VP8 or VP8L chunk is left


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _uint24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def mp4_bytes(frames: list[Image.Image], fps: float, text: str) -> bytes:
    """An H.264 video that every browser plays (yuv420p, BT.709); odd sides grow by a repeated row or column."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        container.metadata["comment"] = text
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.options = {"crf": str(CRF), "preset": "medium", "x264-params": X264}
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (side + side % 2 for side in frames[0].size)
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for frame in frames:
            container.mux(stream.encode(_video_frame(frame)))
        container.mux(stream.encode())
    return buffer.getvalue()


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
