"""The objects of synthetic scenes: shapes, surfaces, and how one turns into another.

Balls, boxes and cones are *solids*: a silhouette and a lighting each, so that any of them can turn into any other by
mixing both. Trees, houses, cars and lamps are built of parts. Every object has one colour of its own, a finish (metal,
wood, glass) and a pattern (stripes, dots), each with an amount in [0, 1].

Legend: an object's own coordinates are x to the right and y upwards, in its sizes, from the middle of its foot; (h, w)
is the window of the picture that it is drawn in.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .paint import Colour, Strength, cover, ease, mix, noise, rgb, shade

SOLIDS = ("ball", "box", "cone")
KINDS = (*SOLIDS, "tree", "house", "car", "lamp")
FOOT = {"ball": 0.5, "box": 0.55, "cone": 0.5, "tree": 0.5, "house": 0.62, "car": 0.7, "lamp": 0.3}  # shadow's width


@dataclass(frozen=True)
class Thing:
    """One object standing on the ground at (u, v) with a height of about `size` picture heights.

    Its colour, amounts and glow may differ from pixel to pixel of the picture: (H, W, 3) and (H, W)."""

    kind: str
    colour: Colour | NDArray
    u: float
    v: float
    size: float
    finish: str = ""
    finish_amount: Strength = 0.0
    pattern: str = ""
    pattern_amount: Strength = 0.0
    becomes: str = ""
    change: float = 0.0
    glow: Strength = 0.0


@dataclass(frozen=True)
class Window:
    """The part of a picture around an object, in the object's own coordinates."""

    rows: slice
    columns: slice
    x: NDArray  # (h, w)
    y: NDArray  # (h, w)
    pixel: float  # in sizes of the object


def window_of(thing: Thing, u: NDArray, v: NDArray, pixel: float, reach: float = 1.0) -> Window:
    """The window of half width `reach` sizes from the foot's middle, and as much upwards."""
    height, width = u.shape
    left, right = ((thing.u + side * reach * thing.size) / pixel for side in (-1, 1))
    top, low = (thing.v - 1.2 * reach * thing.size) / pixel, (thing.v + 0.12 * thing.size) / pixel
    rows = slice(*(int(np.clip(edge, 0, height)) for edge in (top, low + 1)))
    columns = slice(*(int(np.clip(edge, 0, width)) for edge in (left, right + 1)))
    x, y = (u[rows, columns] - thing.u) / thing.size, (thing.v - v[rows, columns]) / thing.size
    return Window(rows, columns, x, y, pixel / thing.size)


def draw_thing(picture: NDArray, thing: Thing, light: float, seed: int, u: NDArray, v: NDArray, pixel: float) -> None:
    """Paint an object into the picture, in place. `light` in [-1, 1] is where the light comes from."""
    window = window_of(thing, u, v, pixel)
    if window.x.size:
        part, thing = picture[window.rows, window.columns], _within(window, thing)
        picture[window.rows, window.columns] = _DRAW.get(thing.kind, _draw_solid)(part, thing, light, seed, window)


def _within(window: Window, thing: Thing) -> Thing:
    """The object with those numbers of each pixel that lie in the window."""
    numbers = {field.name: getattr(thing, field.name) for field in fields(thing)}
    maps = {name: each for name, each in numbers.items() if isinstance(each, np.ndarray)}
    parts: dict[str, Any] = {name: each[window.rows, window.columns] for name, each in maps.items()}
    return replace(thing, **parts)


def draw_shadow(picture: NDArray, thing: Thing, light: float, u: NDArray, v: NDArray, horizon: float) -> None:
    """Darken the ground beside the foot, in place."""
    width = FOOT[thing.kind] * thing.size
    across, along = (u - thing.u + light * 0.3 * thing.size) / (1.25 * width), (v - thing.v) / (0.30 * width)
    dark = np.clip(1.3 - np.hypot(across, along), 0, 1) * (v > horizon)
    picture *= (1 - 0.55 * ease(np.clip(dark, 0, 1)))[..., None]


def draw_glow(picture: NDArray, thing: Thing, u: NDArray, v: NDArray) -> NDArray:
    """The light of a lamp that is turned up, added over everything."""
    if thing.kind != "lamp" or not np.any(thing.glow):
        return picture
    distance = np.hypot(u - thing.u, v - (thing.v - 0.86 * thing.size)) / thing.size
    halo = 0.9 * thing.glow * np.exp(-distance / (0.12 + 0.33 * thing.glow))
    return 1 - (1 - picture) * (1 - halo[..., None] * rgb((1.0, 0.86, 0.52)))


def _surface(part: NDArray, thing: Thing, brightness: NDArray, inside: NDArray, window: Window, seed: int) -> NDArray:
    """Paint the coloured part of an object: pattern, then finish, then its coverage `inside` (h, w)."""
    lit = shade(thing.colour, brightness)
    if np.any(thing.pattern_amount):
        white = shade((0.95, 0.95, 0.93), brightness)
        drawn = cover(_pattern(thing, window), 2 * window.pixel) * (thing.pattern_amount != 0)
        lit = mix(lit, white, drawn)
    if np.any(thing.finish_amount):
        lit, inside = _finish(lit, thing, brightness, inside, window, seed)
    return mix(part, lit, inside)


def _pattern(thing: Thing, window: Window) -> NDArray:
    """Signed distance of white stripes or dots, which grow from nothing with the amount."""
    period = 0.2
    across, up = ((place / period + 0.5) % 1 - 0.5 for place in (window.x, window.y))
    if thing.pattern == "stripes":
        return (np.abs(across) - 0.25 * thing.pattern_amount) * period
    return (np.hypot(across, up) - 0.36 * thing.pattern_amount) * period


def _finish(lit: NDArray, thing: Thing, brightness: NDArray, inside: NDArray, window: Window, seed: int):
    """(surface, coverage) of metal, wood or glass at the finish's amount."""
    amount = np.full_like(brightness, thing.finish_amount)
    match thing.finish:
        case "metal":
            bands = 0.62 + 0.33 * np.sin(9 * window.y + 5 * brightness) + 0.35 * np.clip(brightness - 0.85, 0, 1)
            return mix(lit, rgb((0.80, 0.83, 0.88)) * bands[..., None], amount), inside
        case "wood":
            bend = noise(np.random.default_rng(seed + 7), window.x + 3, window.y + 3, 2.0, 2)
            grain = 0.82 + 0.18 * np.sin(55 * (window.x + 0.25 * bend))
            wood = rgb((0.62, 0.40, 0.20)) * (grain * np.clip(brightness, 0.2, 1.1))[..., None]
            return mix(lit, wood, amount), inside
        case _:
            clear = mix(lit, rgb((0.86, 0.95, 0.98)) * np.ones_like(lit), 0.55 * amount)
            gleam = np.clip(1 - np.abs(window.x + 0.5 * window.y - 0.15) / 0.06, 0, 1) * amount
            return mix(clear, rgb((1.0, 1.0, 1.0)), 0.8 * gleam), inside * (1 - 0.62 * thing.finish_amount)


def _solid(kind: str, light: float, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Signed distance in sizes and brightness of a solid, (h, w) each."""
    match kind:
        case "ball":
            a, b = 2 * x, 2 * (y - 0.5)
            distance = np.hypot(a, b)
            z = np.sqrt(np.clip(1 - distance**2, 0, 1))
            lambert = np.clip(0.55 * light * a + 0.6 * b + 0.6 * z, 0, 1.2)
            gloss = np.clip(0.5 * light * a + 0.55 * b + 0.67 * z, 0, 1) ** 24
            return (distance - 1) / 2, 0.25 + 0.72 * lambert + 0.6 * gloss
        case "box":
            rise = np.clip((y - 0.78) / 0.22, 0, 1)
            half = 0.45 * (1 - 0.12 * rise)
            distance = np.maximum(np.abs(x - 0.16 * rise) - half, np.abs(y - 0.5) - 0.5)
            front = 0.78 + 0.3 * light * x
            return distance, front + (1.12 - front) * np.clip((y - 0.78) * 60, 0, 1)
        case _:
            slope = (np.abs(x) - 0.42 * (1 - y)) * 0.92
            side = x / np.maximum(0.42 * (1 - y), 0.02)
            return np.maximum(slope, -y), np.clip(0.72 + 0.34 * light * side + 0.12 * (1 - side**2), 0.2, 1.15)


def _draw_solid(part, thing: Thing, light: float, seed: int, window: Window):
    distance, brightness = _solid(thing.kind, light, window.x, window.y)
    if thing.change > 0:
        others = _solid(thing.becomes, light, window.x, window.y)
        distance, brightness = (a + thing.change * (b - a) for a, b in zip((distance, brightness), others, strict=True))
    return _surface(part, thing, brightness, cover(distance, 2 * window.pixel), window, seed)


def _draw_tree(part, thing: Thing, light: float, seed: int, window: Window):
    x, y, pixel = window.x, window.y, window.pixel
    trunk = np.maximum(np.abs(x) - 0.055, np.abs(y - 0.25) - 0.25)
    bark = rgb((0.36, 0.25, 0.17)) * (1 + 0.3 * light * np.sign(x))[..., None]
    part = mix(part, bark, cover(trunk, 2 * pixel))
    blobs = ((0.0, 0.74, 0.26), (-0.22, 0.58, 0.2), (0.22, 0.58, 0.2), (0.0, 0.52, 0.22))
    crown = np.min([np.hypot(x - dx, y - dy) - radius for dx, dy, radius in blobs], axis=0)
    leaves = 0.75 + 0.5 * noise(np.random.default_rng(seed + 1), x + 2, y + 3, 9.0, 2)
    lit = 0.78 + 0.5 * (light * 0.5 * x + y - 0.6)
    return _surface(part, thing, lit * leaves, cover(crown, 3 * pixel), window, seed)


def _draw_house(part, thing: Thing, light: float, seed: int, window: Window):
    x, y, pixel = window.x, window.y, window.pixel
    walls = np.maximum(np.abs(x) - 0.44, np.abs(y - 0.29) - 0.29)
    part = _surface(part, thing, 0.86 + 0.22 * light * x, cover(walls, 2 * pixel), window, seed)
    roof = np.maximum((np.abs(x) - 1.3 * (0.98 - y)) * 0.61, 0.58 - y)
    part = mix(part, rgb((0.42, 0.22, 0.18)) * (0.9 + 0.5 * (y - 0.6))[..., None], cover(roof, 2 * pixel))
    door = np.maximum(np.abs(x + 0.16) - 0.075, np.abs(y - 0.16) - 0.16)
    pane = np.maximum(np.abs(x - 0.18) - 0.1, np.abs(y - 0.33) - 0.09)
    part = mix(part, rgb((0.30, 0.20, 0.14)), cover(door, 2 * pixel))
    return mix(part, rgb((0.66, 0.78, 0.88)), cover(pane, 2 * pixel))


def _draw_car(part, thing: Thing, light: float, seed: int, window: Window):
    x, y, pixel = window.x, window.y, window.pixel
    body = np.hypot(np.maximum(np.abs(x) - 0.55, 0), np.maximum(np.abs(y - 0.25) - 0.06, 0)) - 0.08
    cabin = np.maximum(np.abs(x + 0.04) - 0.36 + 0.55 * (y - 0.36), np.abs(y - 0.46) - 0.13)
    paintwork = 0.82 + 0.9 * (y - 0.3) + 0.15 * light * x
    part = _surface(part, thing, paintwork, cover(np.minimum(body, cabin), 2 * pixel), window, seed)
    glass = np.maximum(np.abs(x + 0.04) - 0.30 + 0.55 * (y - 0.36), np.abs(y - 0.46) - 0.085)
    part = mix(part, rgb((0.20, 0.26, 0.33)), cover(np.maximum(glass, 0.02 - np.abs(x + 0.04)), 2 * pixel))
    for middle in (-0.35, 0.35):
        wheel = np.hypot(x - middle, y - 0.12)
        part = mix(part, rgb((0.10, 0.10, 0.11)), cover(wheel - 0.125, 2 * pixel))
        part = mix(part, rgb((0.62, 0.63, 0.65)), cover(wheel - 0.055, 2 * pixel))
    return part


def _draw_lamp(part, thing: Thing, light: float, seed: int, window: Window):
    x, y, pixel = window.x, window.y, window.pixel
    post = np.maximum(np.abs(x) - 0.028, np.abs(y - 0.36) - 0.36)
    base = np.maximum(np.abs(x) - 0.12, np.abs(y - 0.02) - 0.02)
    part = mix(part, rgb((0.24, 0.24, 0.27)), cover(np.minimum(post, base), 2 * pixel))
    head = np.maximum(np.abs(x) - 0.12 - 0.25 * (0.98 - y), np.abs(y - 0.84) - 0.14)
    lit = 0.78 + 0.25 * light * x + 0.5 * thing.glow
    return _surface(part, thing, lit, cover(head, 2 * pixel), window, seed)


_DRAW = {"tree": _draw_tree, "house": _draw_house, "car": _draw_car, "lamp": _draw_lamp}


def silhouette(thing: Thing, u: NDArray, v: NDArray, pixel: float) -> NDArray[np.bool_]:
    """True where an object covers the picture, (H, W)."""
    dark, bright = np.zeros((*u.shape, 3)), np.ones((*u.shape, 3))
    for picture in (dark, bright):
        draw_thing(picture, replace(thing, finish_amount=0.0, pattern_amount=0.0), 0.0, 0, u, v, pixel)
    return (bright - dark).max(-1) < 0.98
