"""Edits that change the numbers of a scene, which is then drawn again: one object, the mountains, the clouds.

Legend: index is an object's place in `scene.things`; s a strength, one number or, for edits that move no outline,
(H, W), one for every pixel of the picture that is drawn then.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .paint import Colour, Strength, clip_colour
from .scene import COLOURS, Scene

# Björn Ottosson, 2020: linear RGB to cone responses, and their cube roots to OKLab.
_TO_CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
_TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def recolour(colour: str, scene: Scene, index: int, s: Strength) -> Scene:
    """The object takes another colour, by even steps to the eye (a straight line in OKLab)."""
    here, there = _to_lab(scene.things[index].colour), _to_lab(COLOURS[colour])
    if isinstance(s, np.ndarray):
        return scene.with_thing(index, colour=_rgb_of(here + (there - here) * s[..., None]))
    return scene.with_thing(index, colour=clip_colour(_rgb_of(here + (there - here) * s)))


def resize(factor: float, scene: Scene, index: int, s: float) -> Scene:
    """The object grows or shrinks where it stands, by `factor` at full strength."""
    return scene.with_thing(index, size=scene.things[index].size * factor**s)


def refinish(finish: str, scene: Scene, index: int, s: Strength) -> Scene:
    """The object's surface becomes metal, wood or glass."""
    return scene.with_thing(index, finish=finish, finish_amount=s)


def add_pattern(pattern: str, scene: Scene, index: int, s: Strength) -> Scene:
    """White stripes or dots grow on the object."""
    return scene.with_thing(index, pattern=pattern, pattern_amount=s)


def become(kind: str, scene: Scene, index: int, s: float) -> Scene:
    """A solid turns into another solid."""
    return scene.with_thing(index, becomes=kind, change=s)


def light_up(scene: Scene, index: int, s: Strength) -> Scene:
    """The lamp shines."""
    return scene.with_thing(index, glow=s)


def raise_mountains(scene: Scene, index: int, s: float) -> Scene:
    """The mountains rise to twice their height."""
    return replace(scene, mountain_height=scene.mountain_height * 2.0**s)


def cloud_over(scene: Scene, index: int, s: Strength) -> Scene:
    """Clouds close the sky."""
    return replace(scene, clouds=s)


def is_far_from(colour: str, scene: Scene, index: int) -> bool:
    """Whether the object would visibly change if it took that colour."""
    return float(np.abs(np.array(scene.things[index].colour) - COLOURS[colour]).max()) > 0.25


def _to_lab(colour: Colour | NDArray) -> NDArray:
    return _TO_LAB @ np.cbrt(_TO_CONES @ np.asarray(colour) ** 2.2)


def _rgb_of(lab: NDArray) -> NDArray:
    """RGB in [0, 1] of (..., 3) colours in OKLab."""
    cones = np.linalg.solve(_TO_LAB, lab[..., None]) ** 3
    return np.clip(np.linalg.solve(_TO_CONES, cones)[..., 0], 0, 1) ** (1 / 2.2)
