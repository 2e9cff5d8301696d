"""The edits of the small world, each a function of its own strength: ground truth at every position of the slider.

Two kinds. A *picture edit* maps any picture and a strength to a picture, so it has a truth on photographs too.
A *scene edit* changes the numbers of a scene, which is then drawn again. Strength 0 is the source itself, 1 the whole
edit; in between the edit's own parameters move: exposure, haze, colour, size.

Legend: pictures (H, W, 3) float32 in [0, 1]; s a strength in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import conv2d, pad

from kontext_slider.train.pocket.world import COLOURS, KINDS, Picture, Scene, draw

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Edit:
    """A named edit with its phrasings ("{thing}" stands for the object's kind) and exactly one of two functions."""

    name: str
    phrasings: tuple[str, ...]
    on_picture: Callable[[Picture, float], Picture] | None = None
    on_scene: Callable[[Scene, float], Scene] | None = None

    @property
    def is_global(self) -> bool:
        """Whether the edit has a truth on any picture, not only on drawn scenes."""
        return self.on_picture is not None

    def apply(self, scene: Scene, strength: float, width: int, height: int) -> Picture:
        """The truth: this edit at `strength` on a drawn scene, (H, W, 3)."""
        if self.on_scene is not None:
            return draw(self.on_scene(scene, strength), width, height)
        assert self.on_picture is not None
        return self.on_picture(draw(scene, width, height), strength)

    def instructions(self, kind: str | None = None) -> list[str]:
        """All phrasings, for one kind of object or for all of them."""
        kinds = KINDS if kind is None else (kind,)
        return list(dict.fromkeys(phrase.replace("{thing}", name) for phrase in self.phrasings for name in kinds))


def night(picture: Picture, s: float) -> Picture:
    """Less light, bluer, duller, with deeper shadows."""
    dull = _lerp(picture, _grey(picture), 0.55 * s)
    return _clip(dull ** (1 + 0.5 * s) * _lerp(1.0, _rgb(0.34, 0.42, 0.66), s))


def sepia(picture: Picture, s: float) -> Picture:
    """An old print: brown tones."""
    return _lerp(picture, _clip(_grey(picture) * _rgb(1.08, 0.89, 0.66) + _rgb(0.04, 0.02, 0.0)), s)


def black_and_white(picture: Picture, s: float) -> Picture:
    """Grey tones with a little more contrast."""
    return _lerp(picture, _clip((_grey(picture) - 0.5) * 1.15 + 0.5), s)


def fog(picture: Picture, s: float) -> Picture:
    """Koschmieder's law: transmission exp(-density), densest in the upper half where the distance is."""
    through = np.exp(-s * (1.8 - 1.0 * np.clip(2 * _rows(picture) - 0.9, 0, 1)))
    return _clip(picture * through + _rgb(0.85, 0.87, 0.89) * (1 - through))


def snow(picture: Picture, s: float) -> Picture:
    """A white cover that grows downwards, a pale sky, and large flakes at places that never change."""
    cover = s * np.clip(0.25 + 0.65 * _rows(picture), 0, 0.85) * (0.55 + 0.45 * _grey(picture))
    white = _lerp(_lerp(picture, _grey(picture), 0.5 * s), _rgb(0.93, 0.95, 0.99), cover)
    return _lerp(white, 1.0, 0.9 * s * _flakes(*picture.shape[:2]))


def sunset(picture: Picture, s: float) -> Picture:
    """Low orange light, violet shadows, a glow in the upper half."""
    warm = _lerp(_rgb(0.16, 0.05, 0.22), _rgb(1.08, 0.74, 0.48), _grey(picture)) * 0.55 + 0.5 * picture * _rgb(
        1.05, 0.72, 0.6
    )
    glow = _rgb(0.30, 0.10, -0.02) * np.exp(-(((_rows(picture) - 0.42) / 0.22) ** 2))
    return _lerp(picture, _clip(warm * 0.85 + glow), s)


def pencil(picture: Picture, s: float) -> Picture:
    """Colour-dodge drawing: brightness over blurred brightness leaves dark lines on white paper."""
    grey = _grey(picture)
    lines = _clip((grey + 0.02) / (_blur(grey, 3.0) + 0.02)) ** 3
    return _lerp(_lerp(picture, grey, min(1.0, 1.6 * s)), _lerp(lines, grey, 0.12), s**1.3)


def autumn(picture: Picture, s: float) -> Picture:
    """Greens turn to orange and brown, the light turns warm."""
    red, green, blue = picture[..., 0:1], picture[..., 1:2], picture[..., 2:3]
    leaf = np.clip((green - np.maximum(red * 0.9, blue)) * 6 + 0.2, 0, 1)
    turned = np.concatenate([np.clip(green * 1.35, 0, 1), green * 0.72, blue * 0.45], -1)
    return _clip(_lerp(picture, turned, s * leaf) * _lerp(1.0, _rgb(1.08, 0.97, 0.82), s))


def underwater(picture: Picture, s: float) -> Picture:
    """Water swallows red first, then green, and more of both further down; blue-green light comes back."""
    depth = s * (0.7 + 0.9 * _rows(picture))
    through = np.exp(-depth * _rgb(1.9, 0.55, 0.4))
    return _clip(picture * through + _rgb(0.02, 0.36, 0.46) * (1 - np.exp(-0.8 * depth)))


def comic(picture: Picture, s: float) -> Picture:
    """Few flat tones, strong colours, ink along the edges."""
    vivid = _clip(_lerp(_grey(picture), picture, 1 + 0.5 * s))
    steps = vivid * 4
    flat = (np.floor(steps) + np.clip((steps - np.floor(steps) - 0.5) * 4 + 0.5, 0, 1)) / 4
    ink = np.clip((_slope(_blur(_grey(picture), 1.0)) - 0.03) * 9, 0, 1)
    return _clip(_lerp(vivid, flat, s) * (1 - s * ink))


def pixel_art(picture: Picture, s: float) -> Picture:
    """Squares of 8 pixels."""
    height, width, _ = picture.shape
    blocks = picture.reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))
    return _lerp(picture, blocks.repeat(8, 0).repeat(8, 1), s)


def neon(picture: Picture, s: float) -> Picture:
    """Two-tone night light: dark violet shadows, magenta middle, cyan lights."""
    grey = _grey(picture)
    low = _lerp(_rgb(0.06, 0.02, 0.18), _rgb(0.90, 0.12, 0.62), np.clip(grey * 2, 0, 1))
    return _lerp(picture, _lerp(low, _rgb(0.35, 0.98, 1.0), np.clip(grey * 2 - 1, 0, 1)), s)


def dreamy(picture: Picture, s: float) -> Picture:
    """Soft focus: the blurred picture is screened over it."""
    return _clip(1 - (1 - picture) * (1 - 0.55 * s * _blur(picture, 4.0)))


def brighter(picture: Picture, s: float) -> Picture:
    """More exposure, with soft highlights."""
    return _clip(1 - (1 - picture) ** (1 + 1.1 * s))


def recolour(colour: str, scene: Scene, s: float) -> Scene:
    """The object takes another colour."""
    mixed = np.array(scene.thing.colour) * (1 - s) + np.array(COLOURS[colour]) * s
    return scene.with_thing(colour=tuple(mixed.tolist()))


def resize(factor: float, scene: Scene, s: float) -> Scene:
    """The object grows or shrinks where it stands, by `factor` at full strength."""
    return scene.with_thing(size=scene.thing.size * factor**s)


def taller_mountains(scene: Scene, s: float) -> Scene:
    """The mountains rise."""
    return replace(scene, mountain_height=scene.mountain_height * 2.0**s)


PICTURE_EDITS = (
    Edit("night", ("make it night", "turn day into night", "make it nighttime", "change the time to night"), night),
    Edit("sepia", ("make it sepia", "add a sepia tone", "make it look like an old photo", "turn it sepia"), sepia),
    Edit(
        "black-and-white",
        ("make it black and white", "remove the colour", "turn it into greyscale", "remove the colors"),
        black_and_white,
    ),
    Edit("fog", ("add fog", "make it foggy", "cover it in fog", "add some mist"), fog),
    Edit("snow", ("make it snow", "add snow", "cover it in snow", "turn it into winter"), snow),
    Edit("sunset", ("make it sunset", "add a sunset", "change the time to sunset", "turn it into a sunset"), sunset),
    Edit(
        "pencil",
        ("make it a pencil sketch", "turn it into a pencil drawing", "draw it with a pencil", "make it a sketch"),
        pencil,
    ),
    Edit("autumn", ("make it autumn", "turn it into autumn", "change the season to autumn", "make it fall"), autumn),
    Edit(
        "underwater",
        ("put it under water", "make it underwater", "turn it into an underwater scene", "sink it in the sea"),
        underwater,
    ),
    Edit(
        "comic",
        ("make it a comic", "turn it into a comic", "make it look like a cartoon", "draw it as a comic book"),
        comic,
    ),
    Edit(
        "pixel-art",
        ("make it pixel art", "turn it into pixel art", "make it look pixelated", "draw it with big pixels"),
        pixel_art,
    ),
    Edit("neon", ("make it neon", "add neon light", "turn it into a neon scene", "make it cyberpunk"), neon),
    Edit("dreamy", ("make it dreamy", "add a soft glow", "make it glow", "add a dreamy glow"), dreamy),
    Edit("brighter", ("make it brighter", "add more light", "brighten it", "turn up the light"), brighter),
)
RECOLOUR_PHRASINGS = ("make the {thing} %s", "turn the {thing} %s", "paint the {thing} %s", "change the {thing} to %s")
SCENE_EDITS = (
    *(
        Edit(
            f"recolour-{colour}",
            tuple(phrase % colour for phrase in RECOLOUR_PHRASINGS),
            on_scene=partial(recolour, colour),
        )
        for colour in COLOURS
    ),
    Edit(
        "bigger",
        ("make the {thing} bigger", "make the {thing} larger", "enlarge the {thing}", "grow the {thing}"),
        on_scene=partial(resize, 1.6),
    ),
    Edit(
        "smaller",
        ("make the {thing} smaller", "shrink the {thing}", "make the {thing} tiny", "reduce the {thing}"),
        on_scene=partial(resize, 0.55),
    ),
    Edit(
        "taller-mountains",
        ("make the mountains taller", "raise the mountains", "make the mountains higher", "grow the mountains"),
        on_scene=taller_mountains,
    ),
)
EDITS = {edit.name: edit for edit in (*PICTURE_EDITS, *SCENE_EDITS)}
NO_EDIT = ("change nothing", "keep it as it is", "do nothing", "leave it alone")


def known_instructions() -> dict[str, list[str]]:
    """What the pocket model is trained to do, in words: edit name -> instructions."""
    return {name: edit.instructions() for name, edit in EDITS.items()}


def _clip(picture) -> Picture:
    return np.clip(picture, 0, 1).astype(np.float32)


def _lerp(a, b, weight) -> Picture:
    return (a + (b - a) * weight).astype(np.float32)


def _rgb(*colour: float) -> Picture:
    return np.array(colour, dtype=np.float32)


def _grey(picture: Picture) -> Picture:
    return (picture @ LUMA)[..., None].repeat(3, -1)


def _rows(picture: Picture) -> Picture:
    """0 at the top edge to 1 at the bottom edge, (H, 1, 1)."""
    return ((np.arange(picture.shape[0], dtype=np.float32) + 0.5) / picture.shape[0])[:, None, None]


def _blur(picture: Picture, sigma: float) -> Picture:
    """Gaussian of `sigma` pixels, edges repeated."""
    radius = round(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[:, None]
    planes = conv2d(pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel[:, :, None])
    planes = conv2d(pad(planes, (0, 0, radius, radius), mode="replicate"), kernel[..., None])
    return planes[:, 0].numpy().transpose(1, 2, 0)


def _slope(picture: Picture) -> Picture:
    """Length of the brightness gradient per pixel, (H, W, 3)."""
    down, right = np.gradient(picture, axis=(0, 1))
    return np.hypot(down, right)


def _flakes(height: int, width: int) -> Picture:
    """Coverage of snow flakes, (H, W, 1): one tile of 64 x 64 pixels, repeated from the upper left corner."""
    tile = np.zeros((64, 64), dtype=np.float32)
    row, column = np.mgrid[0:64, 0:64] + 0.5
    for y, x, radius in (
        (8, 12, 3.4),
        (20, 44, 2.6),
        (30, 22, 2.0),
        (38, 56, 3.0),
        (52, 34, 3.6),
        (57, 8, 2.2),
        (5, 58, 2.2),
    ):
        dy, dx = (row - y + 32) % 64 - 32, (column - x + 32) % 64 - 32
        tile = np.maximum(tile, np.clip(radius + 0.7 - np.hypot(dy, dx), 0, 1))
    return np.tile(tile, (height // 64 + 1, width // 64 + 1))[:height, :width, None]
