"""The drawn world: landscapes with one object, as functions of a few numbers, at any size.

A `Scene` is its own description; `draw` turns it into a picture. Shapes are signed distances with analytic
antialiasing, so a scene needs no supersampling and looks the same at 128 and at 512 pixels. `draw_collage` makes the
other half of the diet: textures and shapes without meaning, so that edits of the whole picture hold on photographs.

Legend: u to the right in picture heights, v downwards in [0, 1]; colours are RGB in [0, 1]; pictures (H, W, 3) float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.80, 0.13, 0.12),
    "orange": (0.93, 0.50, 0.10),
    "yellow": (0.93, 0.80, 0.16),
    "green": (0.18, 0.60, 0.22),
    "blue": (0.14, 0.33, 0.80),
    "purple": (0.52, 0.20, 0.66),
    "pink": (0.94, 0.50, 0.66),
    "white": (0.93, 0.93, 0.91),
}
KINDS = ("ball", "box", "tree")


@dataclass(frozen=True)
class Thing:
    """One object standing on the ground at (u, v) with a height of `size` picture heights."""

    kind: str
    colour: Colour
    u: float
    v: float
    size: float


@dataclass(frozen=True)
class Scene:
    """All that a landscape is: change a field with `replace` and draw again."""

    sky_top: Colour
    sky_low: Colour
    horizon: float
    ground_far: Colour
    ground_near: Colour
    texture: float
    mountain_colour: Colour
    mountain_height: float
    sun: tuple[float, float, float]
    light: float
    seed: int
    thing: Thing

    def with_thing(self, **changes) -> Scene:
        return replace(self, thing=replace(self.thing, **changes))


def random_scene(rng: np.random.Generator, aspect: float = 1.0) -> Scene:
    """Draw the numbers of a scene that fits a picture of width / height = `aspect`."""
    horizon = rng.uniform(0.38, 0.62)
    kind = KINDS[rng.integers(len(KINDS))]
    names = [name for name in COLOURS if kind != "tree" or name != "white"]
    colour = COLOURS["green"] if kind == "tree" and rng.random() < 0.6 else COLOURS[names[rng.integers(len(names))]]
    ground = _jitter(rng, [(0.36, 0.55, 0.24), (0.55, 0.50, 0.28), (0.70, 0.60, 0.42), (0.42, 0.44, 0.40)], 0.04)
    blue = _jitter(rng, [(0.30, 0.55, 0.88), (0.42, 0.62, 0.85), (0.55, 0.68, 0.80), (0.36, 0.48, 0.70)], 0.06)
    thing = Thing(
        kind=kind,
        colour=_clip(np.array(colour) + rng.normal(0, 0.03, 3)),
        u=rng.uniform(0.25, aspect - 0.25) if aspect > 0.5 else aspect / 2,
        v=rng.uniform(max(horizon + 0.14, 0.66), 0.88),
        size=rng.uniform(0.20, 0.38),
    )
    return Scene(
        sky_top=blue,
        sky_low=_clip(np.array(blue) * 0.45 + np.array([0.86, 0.87, 0.86]) * 0.55),
        horizon=horizon,
        ground_far=_clip(np.array(ground) * 0.75 + np.array(blue) * 0.25),
        ground_near=ground,
        texture=rng.uniform(0.2, 1.0),
        mountain_colour=_jitter(rng, [(0.38, 0.42, 0.52), (0.45, 0.40, 0.42), (0.30, 0.42, 0.38)], 0.05),
        mountain_height=rng.uniform(0.08, 0.22),
        sun=(rng.uniform(0.1, max(aspect - 0.1, 0.11)), rng.uniform(0.07, horizon - 0.12), rng.uniform(0.03, 0.06)),
        light=rng.uniform(-1.0, 1.0),
        seed=int(rng.integers(2**31)),
        thing=thing,
    )


def draw(scene: Scene, width: int, height: int) -> Picture:
    """The picture of a scene, (H, W, 3) in [0, 1]."""
    u, v, pixel = _grid(width, height)
    rng = np.random.default_rng(scene.seed)
    picture = _mix(_rgb(scene.sky_top), _rgb(scene.sky_low), np.clip(v / scene.horizon, 0, 1) ** 1.3)
    picture = _draw_sun(picture, scene, u, v, pixel)
    picture = _draw_clouds(picture, rng, u, v, scene.horizon)
    picture = _draw_mountains(picture, scene, rng, u, v, pixel)
    picture = _draw_ground(picture, scene, rng, u, v, pixel)
    picture = _draw_shadow(picture, scene, u, v)
    picture = _DRAW_THING[scene.thing.kind](picture, scene, u, v, pixel)
    return np.clip(picture, 0, 1).astype(np.float32)


def draw_mask(scene: Scene, width: int, height: int) -> NDArray[np.bool_]:
    """True where the object stands, (H, W)."""
    u, v, pixel = _grid(width, height)
    black, white = np.zeros((height, width, 3)), replace(scene.thing, colour=(1.0, 1.0, 1.0))
    return _DRAW_THING[scene.thing.kind](black, replace(scene, thing=white), u, v, pixel).max(-1) > 0.02


def draw_collage(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Dead leaves (many small shapes over few large ones, the statistics of photographs) with textures, stripes,
    grain and uneven light, (H, W, 3) in [0, 1]."""
    u, v, pixel = _grid(width, height)
    vivid = rng.random()
    picture = _mix(_dull(rng, vivid), _dull(rng, vivid), _noise(rng, u, v, rng.uniform(1, 4), 3))
    for radius in sorted(np.clip(0.03 * (1 + rng.pareto(1.2, rng.integers(4, 40))), 0, 0.4), reverse=True):
        distance = _random_shape(rng, u, v, width / height, radius)
        fill = _dull(rng, vivid) * (0.6 + 0.8 * _noise(rng, u, v, rng.uniform(2, 24), 2)[..., None])
        if rng.random() < 0.3:
            angle, period = rng.uniform(0, np.pi), rng.uniform(0.02, 0.12)
            fill = (
                fill * (0.75 + 0.25 * np.sin((u * np.cos(angle) + v * np.sin(angle)) * 2 * np.pi / period))[..., None]
            )
        picture = _mix(picture, fill, _cover(distance, pixel * rng.uniform(1, 6)))
    light = 0.6 + 0.8 * _noise(rng, u, v, rng.uniform(0.7, 2), 2)
    grain = rng.normal(0, rng.uniform(0, 0.04), picture.shape[:2])
    exposure = rng.uniform(0.6, 1.3)
    return np.clip(picture * (light * exposure)[..., None] + grain[..., None], 0, 1).astype(np.float32)


def _grid(width: int, height: int):
    pixel = 1.0 / height
    u = ((np.arange(width) + 0.5) * pixel)[None].repeat(height, 0)
    v = ((np.arange(height) + 0.5) * pixel)[:, None].repeat(width, 1)
    return u, v, pixel


def _rgb(colour) -> NDArray:
    return np.asarray(colour, dtype=np.float64).reshape(1, 1, 3)


def _dull(rng: np.random.Generator, vivid: float) -> NDArray:
    colour = rng.random(3)
    return _rgb(colour.mean() + vivid * (colour - colour.mean()))


def _clip(colour) -> Colour:
    red, green, blue = np.clip(colour, 0, 1)
    return float(red), float(green), float(blue)


def _jitter(rng: np.random.Generator, choices: list[Colour], spread: float) -> Colour:
    return _clip(np.array(choices[rng.integers(len(choices))]) + rng.normal(0, spread, 3))


def _mix(under, over, weight: NDArray) -> NDArray:
    weight = weight[..., None]
    return under * (1 - weight) + over * weight


def _cover(distance: NDArray, softness: float) -> NDArray:
    """Coverage in [0, 1] of a shape given by its signed distance (negative inside)."""
    return np.clip(0.5 - distance / softness, 0, 1)


def _noise(rng: np.random.Generator, u: NDArray, v: NDArray, frequency: float, octaves: int) -> NDArray:
    """Value noise in [0, 1]: eased lattices of 64 x 64 values, repeated; each octave twice as fine, half as strong."""
    total, weight = np.zeros_like(u), 0.0
    for octave in range(octaves):
        scale = frequency * 2**octave
        shift = rng.random(2)
        x, y = u[0] * scale + shift[0], v[:, 0] * scale + shift[1]
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        lattice = rng.random((64, 64))
        a, b = _ease(x - column)[None], _ease(y - row)[:, None]
        near, far = lattice[row % 64], lattice[(row + 1) % 64]
        top = near[:, column % 64] * (1 - a) + near[:, (column + 1) % 64] * a
        low = far[:, column % 64] * (1 - a) + far[:, (column + 1) % 64] * a
        total += (top * (1 - b) + low * b) * 0.5**octave
        weight += 0.5**octave
    return total / weight


def _ease(t: NDArray) -> NDArray:
    return t * t * (3 - 2 * t)


def _draw_sun(picture, scene: Scene, u, v, pixel):
    su, sv, radius = scene.sun
    distance = np.hypot(u - su, v - sv)
    picture = _mix(picture, _rgb((1.0, 0.97, 0.86)), 0.5 * np.exp(-distance / (3 * radius)))
    return _mix(picture, _rgb((1.0, 0.98, 0.90)), _cover(distance - radius, 2 * pixel))


def _draw_clouds(picture, rng: np.random.Generator, u, v, horizon: float):
    field = _noise(rng, u, v * 2.5, 2.2, 4)
    cloud = np.clip((field - rng.uniform(0.48, 0.62)) * 4, 0, 1) * np.clip((horizon - v) * 5, 0, 1)
    return _mix(picture, _rgb((0.96, 0.96, 0.97)), 0.8 * cloud)


def _draw_mountains(picture, scene: Scene, rng: np.random.Generator, u, v, pixel):
    for layer, fade in ((1.0, 0.45), (0.6, 0.15)):
        peaks = _noise(rng, u[:1], v[:1], rng.uniform(1.5, 3.0), 5)[0] * 1.6 - 0.3
        ridge = scene.horizon - np.clip(peaks, 0.05, 1.2) * scene.mountain_height * layer
        colour = _rgb(scene.mountain_colour) * (1 - fade) + _rgb(scene.sky_low) * fade
        shade = 0.85 + 0.3 * _noise(rng, u, v, 14.0, 3)[..., None]
        picture = _mix(picture, colour * shade, _cover(ridge[None] - v, 2 * pixel))
        snow = _cover(v - (scene.horizon - 0.72 * scene.mountain_height * layer), 0.02) * _cover(
            ridge[None] - v, 2 * pixel
        )
        picture = _mix(picture, _rgb((0.95, 0.96, 0.98)), 0.7 * snow)
    return picture


def _draw_ground(picture, scene: Scene, rng: np.random.Generator, u, v, pixel):
    depth = np.clip((v - scene.horizon) / (1 - scene.horizon), 0, 1)
    colour = _mix(_rgb(scene.ground_far), _rgb(scene.ground_near), depth)
    perspective = 1.0 / (0.15 + depth)
    grass = _noise(rng, u * 3.0, v * 5.0 * (1 + 0.5 / (0.3 + scene.horizon)), 6.0, 4) - 0.5
    colour = colour * (1 + 0.7 * scene.texture * grass * np.clip(1.4 - 0.12 * perspective, 0.3, 1.0))[..., None]
    return _mix(picture, colour, _cover(scene.horizon - v, 2 * pixel))


def _draw_shadow(picture, scene: Scene, u, v):
    thing = scene.thing
    width = {"ball": 0.5, "box": 0.55, "tree": 0.5}[thing.kind] * thing.size
    lean = -scene.light * 0.5 * thing.size
    across, along = (u - thing.u - lean * 0.6) / (1.25 * width), (v - thing.v) / (0.30 * width)
    shadow = np.clip(1.3 - np.hypot(across, along), 0, 1) * (v > scene.horizon)
    return picture * (1 - 0.55 * _ease(np.clip(shadow, 0, 1)))[..., None]


def _shade(colour: Colour, brightness: NDArray) -> NDArray:
    """A lit surface: dark side, full colour, and a highlight above brightness 1."""
    base = _rgb(colour) * np.clip(brightness, 0, 1)[..., None]
    return base + np.clip(brightness - 1, 0, 1)[..., None] * (1 - base)


def _draw_ball(picture, scene: Scene, u, v, pixel):
    thing = scene.thing
    radius = thing.size / 2
    x, y = (u - thing.u) / radius, (v - (thing.v - radius)) / radius
    distance = np.hypot(x, y)
    z = np.sqrt(np.clip(1 - distance**2, 0, 1))
    lambert = np.clip(0.55 * scene.light * x - 0.6 * y + 0.6 * z, 0, 1.2)
    gloss = np.clip(0.5 * scene.light * x - 0.55 * y + 0.67 * z, 0, 1) ** 24
    return _mix(
        picture, _shade(thing.colour, 0.25 + 0.72 * lambert + 0.6 * gloss), _cover((distance - 1) * radius, 2 * pixel)
    )


def _draw_box(picture, scene: Scene, u, v, pixel):
    thing = scene.thing
    half, tall, lift = thing.size * 0.45, thing.size * 0.78, thing.size * 0.22
    front = np.maximum(np.abs(u - thing.u) - half, np.abs(v - (thing.v - tall / 2)) - tall / 2)
    rise = (thing.v - tall - v) / lift  # 0 at the front edge of the lid, 1 at its back edge
    lid = np.maximum(
        np.abs(u - thing.u - 0.16 * thing.size * rise) - half * (1 - 0.12 * rise), np.abs(rise - 0.5) * lift - lift / 2
    )
    side = 0.78 + 0.14 * scene.light * (u - thing.u) / half
    picture = _mix(picture, _shade(thing.colour, np.full_like(u, 1.12)), _cover(lid, 2 * pixel))
    return _mix(picture, _shade(thing.colour, side), _cover(front, 2 * pixel))


def _draw_tree(picture, scene: Scene, u, v, pixel):
    thing = scene.thing
    rng = np.random.default_rng(scene.seed + 1)
    trunk = np.maximum(
        np.abs(u - thing.u) - 0.055 * thing.size, np.abs(v - (thing.v - 0.25 * thing.size)) - 0.25 * thing.size
    )
    picture = _mix(
        picture,
        _rgb((0.36, 0.25, 0.17)) * (1 + 0.3 * scene.light * np.sign(u - thing.u))[..., None],
        _cover(trunk, 2 * pixel),
    )
    leaves = 0.75 + 0.5 * _noise(rng, (u - thing.u) / thing.size + 2, (v - thing.v) / thing.size + 3, 9.0, 2)
    blobs = [(0.0, 0.74, 0.26), (-0.22, 0.58, 0.2), (0.22, 0.58, 0.2), (0.0, 0.52, 0.22)]
    x = [(u - thing.u) / thing.size - dx for dx, _, _ in blobs]
    y = [(v - thing.v) / thing.size + dy for _, dy, _ in blobs]
    distance = np.min([np.hypot(a, b) - r for a, b, (_, _, r) in zip(x, y, blobs, strict=True)], axis=0)
    light = 0.78 + 0.5 * (scene.light * 0.5 * (u - thing.u) / thing.size - (v - thing.v) / thing.size - 0.6)
    return _mix(picture, _shade(thing.colour, light * leaves), _cover(distance * thing.size, 3 * pixel))


_DRAW_THING = {"ball": _draw_ball, "box": _draw_box, "tree": _draw_tree}


def _random_shape(rng: np.random.Generator, u, v, aspect: float, radius: float) -> NDArray:
    """Signed distance of an ellipse, a box, a blob, or, where `radius` is large, a half plane."""
    x, y = u - rng.uniform(0, aspect), v - rng.uniform(0, 1)
    angle = rng.uniform(0, np.pi)
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    a, b = radius * rng.uniform(0.6, 1.6, 2)
    match rng.integers(4 if radius > 0.15 else 3):
        case 0:
            return (np.hypot(x / a, y / b) - 1) * min(a, b)
        case 1:
            return np.maximum(np.abs(x) - a, np.abs(y) - b)
        case 2:
            return np.hypot(x, y) - a * (0.5 + _noise(rng, u, v, 1.0 / radius, 2))
        case _:
            return x
