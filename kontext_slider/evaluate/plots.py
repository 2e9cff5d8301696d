"""Plots of a comparison, drawn with Pillow: curves over the strength, and strips of frames side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PALETTE = (
    "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#bcbd22", "#4c5b8f",
    "#0b7a5e", "#a0522d", "#7f7f7f", "#c71585",
)  # fmt: skip
INK, FAINT = "#333333", "#dddddd"
DETAIL = 3  # drawn this much larger, then scaled down: Pillow's lines have no soft edges
WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 60, 620, 44, 404  # of the field
FRAME, GAP, LABEL = 128, 3, 150  # of strips


def line_plot(curves: Mapping[str, Sequence[float]], title: str, emphasis: Mapping[str, int]) -> Image.Image:
    """One line per name over strengths from 0 to 1 (first to last value of each), named at its right end.

    `emphasis`: a line's width in pixels, where it is not 2."""
    top = max(1.05, 1.05 * min(2.0, max(max(curve) for curve in curves.values())))
    image = Image.new("RGB", (WIDTH * DETAIL, HEIGHT * DETAIL), "white")
    draw = ImageDraw.Draw(image)
    _axes(draw, title, top)
    ends = _spread({name: _y(curve[-1], top) for name, curve in curves.items()}, gap=19)
    for number, (name, curve) in reversed(list(enumerate(curves.items()))):  # the first lies on top
        colour, width = PALETTE[number % len(PALETTE)], emphasis.get(name, 2)
        points = [(_x(i / (len(curve) - 1)), _y(value, top)) for i, value in enumerate(curve)]
        draw.line([_large(point) for point in points], fill=colour, width=width * DETAIL, joint="curve")
        draw.line([_large(points[-1]), _large((RIGHT + 24, ends[name]))], fill=colour, width=DETAIL)
        draw.text(_large((RIGHT + 28, ends[name])), name, fill=colour, font=_font(14 * DETAIL), anchor="lm")
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def strips(rows: Mapping[str, Sequence[Image.Image]], strengths: Sequence[float], title: str) -> Image.Image:
    """One row of frames per name, one column per strength, all rows of one length."""
    first = next(iter(rows.values()))[0]
    height = round(FRAME * first.height / first.width)
    sheet = Image.new("RGB", (LABEL + len(strengths) * (FRAME + GAP), 46 + len(rows) * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 6), title, fill=INK, font=_font(15))
    for column, strength in enumerate(strengths):
        middle = LABEL + column * (FRAME + GAP) + FRAME // 2
        draw.text((middle, 34), f"{strength:.2g}", fill=INK, font=_font(13), anchor="mm")
    for row, (name, frames) in enumerate(rows.items()):
        y = 46 + row * (height + GAP)
        draw.text((8, y + height // 2), name, fill=INK, font=_font(13), anchor="lm")
        for column, frame in enumerate(frames):
            scaled = frame.resize((FRAME, height), Image.Resampling.LANCZOS)
            sheet.paste(scaled, (LABEL + column * (FRAME + GAP), y))
    return sheet


def _axes(draw: ImageDraw.ImageDraw, title: str, top: float) -> None:
    draw.text(_large((LEFT, 22)), title, fill=INK, font=_font(16 * DETAIL), anchor="lm")
    for value in np.arange(0, top, 0.25):
        y = _y(float(value), top)
        draw.line([_large((LEFT, y)), _large((RIGHT, y))], fill=FAINT, width=DETAIL)
        draw.text(_large((LEFT - 8, y)), f"{value:g}", fill=INK, font=_font(13 * DETAIL), anchor="rm")
    for value in np.linspace(0, 1, 5):
        draw.text(_large((_x(float(value)), BOTTOM + 14)), f"{value:g}", fill=INK, font=_font(13 * DETAIL), anchor="mm")
    draw.text(_large(((LEFT + RIGHT) / 2, BOTTOM + 36)), "strength", fill=INK, font=_font(14 * DETAIL), anchor="mm")


def _spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Heights of labels, in the order of their lines, at least `gap` apart and within the field where they fit."""
    names = sorted(heights, key=lambda name: heights[name])
    placed: list[float] = []
    for name in names:
        placed.append(max(heights[name], placed[-1] + gap) if placed else max(heights[name], TOP))
    excess = max(0.0, placed[-1] - BOTTOM)
    for number in range(len(placed) - 1, -1, -1):
        limit = BOTTOM if number == len(placed) - 1 else placed[number + 1] - gap
        placed[number] = min(placed[number], limit) if excess else placed[number]
    return dict(zip(names, placed, strict=True))


def _x(strength: float) -> float:
    return LEFT + strength * (RIGHT - LEFT)


def _y(value: float, top: float) -> float:
    return BOTTOM - min(value, top) / top * (BOTTOM - TOP)


def _large(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * DETAIL, point[1] * DETAIL


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
