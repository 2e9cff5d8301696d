"""Plots drawn with Pillow: what a person has to be able to read off them."""

import numpy as np
from PIL import Image, ImageColor

from kontext_slider.evaluate.plots import BOTTOM, HEIGHT, PALETTE, RIGHT, TOP, WIDTH, _spread, line_plot, strips


def test_every_line_is_there_and_ends_at_its_value():
    """A curve drawn upside down or off the field is worse than none."""
    names = [f"method-{number}" for number in range(len(PALETTE))]
    image = line_plot({name: [0, i / 20, i / 10] for i, name in enumerate(names)}, "a title", {names[0]: 4})
    assert image.size == (WIDTH, HEIGHT)
    pixels = np.asarray(image).astype(int)
    for number, colour in enumerate(PALETTE):
        near = np.abs(pixels - ImageColor.getrgb(colour)).sum(-1) < 30
        assert near.any(), f"{names[number]} is not in the picture"
    top = np.abs(pixels[:, RIGHT - 6] - ImageColor.getrgb(PALETTE[9])).sum(-1).argmin()
    low = np.abs(pixels[:, RIGHT - 6] - ImageColor.getrgb(PALETTE[1])).sum(-1).argmin()
    assert TOP < top < low < BOTTOM


def test_labels_do_not_lie_on_each_other():
    """Ten methods that all end at 1 made one black smear of names."""
    heights = _spread({name: 100.0 for name in "abcdefghij"}, gap=19)
    assert np.diff(sorted(heights.values())).min() >= 19 and max(heights.values()) <= BOTTOM
    low = _spread({name: float(BOTTOM) for name in "abcdefghij"}, gap=19)
    assert np.diff(sorted(low.values())).min() >= 19 and max(low.values()) <= BOTTOM


def test_strips_show_every_frame_in_its_place():
    """Rows under each other, strengths from left to right."""
    rows = {name: [Image.new("RGB", (32, 32), (value, 0, 0)) for value in (0, 100, 200)] for name in ("ours", "other")}
    sheet = strips(rows, (0.0, 0.5, 1.0), "make it snow")
    assert sheet.size == (150 + 3 * 131, 46 + 2 * 131)
    assert [sheet.getpixel((150 + column * 131 + 64, 46 + 131 + 64))[0] for column in range(3)] == [0, 100, 200]
