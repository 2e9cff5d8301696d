"""A contact sheet: rows of edits, columns of strengths. Most faults of an image model are visible at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from kontext_slider.engine import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.instructions import whole_picture_first
from kontext_slider.pipeline import KontextSliderPipeline

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
GAP = 4  # pixels between frames


def photo_sheet(pipe: KontextSliderPipeline, photos: Sequence[Path], seed: int = 0) -> Image.Image:
    """Every photograph with two of the instructions that the model knows, in turn, those that suit any picture first:
    the source, then STRENGTHS."""
    instructions = [phrases[0] for phrases in whole_picture_first(pipe.known_instructions).values()]
    rows = []
    for number, photo in enumerate(photos):
        for instruction in instructions[2 * number : 2 * number + 2]:
            with SliderEngine(pipe).open(read_image(photo), instruction, seed=seed) as session:
                rows.append([session.source, *(frame for _, frame in session.frames(STRENGTHS))])
    return paste_rows(rows)


def paste_rows(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Two rows side by side, every picture scaled to a height of 144 pixels."""
    height = 144
    scaled = [[frame.resize((round(frame.width * height / frame.height), height)) for frame in row] for row in rows]
    columns = [scaled[0::2], scaled[1::2]]
    widths = [max(sum(f.width + GAP for f in row) for row in column) for column in columns if column]
    sheet = Image.new("RGB", (sum(widths) + GAP, len(columns[0]) * (height + GAP) + GAP), "white")
    left = GAP
    for column, width in zip(columns, widths, strict=False):
        for number, row in enumerate(column):
            x = left
            for frame in row:
                sheet.paste(frame, (x, GAP + number * (height + GAP)))
                x += frame.width + GAP
        left += width
    return sheet
