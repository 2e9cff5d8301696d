"""Synthetic scenes: landscapes with one to three objects, as functions of a few numbers, at any size.

A `Scene` is its own description; `draw` turns it into a picture. Shapes are signed distances with analytic
antialiasing, so a scene needs no supersampling and looks the same at 128 and at 512 pixels; that, exact masks and no
further dependency are why no drawing library is used.

Legend: u to the right in picture heights, v downwards in [0, 1]; colours are RGB in [0, 1]; pictures (H, W, 3) float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .paint import Colour, Picture, Strength, clip_colour, cover, grid, mix, noise, rgb
from .things import KINDS, Thing, draw_glow, draw_shadow, draw_thing, silhouette

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
NUM_THINGS_WEIGHTS = (0.3, 0.4, 0.3)
TWIN_SHARE = 0.5  # of scenes with several objects: two are of one kind


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
    things: tuple[Thing, ...]
    clouds: Strength = 0.0  # or (H, W), for every pixel of the picture

    def with_thing(self, index: int, **changes) -> Scene:
        """The same scene with other numbers for one object."""
        things = list(self.things)
        things[index] = replace(things[index], **changes)
        return replace(self, things=tuple(things))

    def name_of(self, index: int) -> str:
        """What a person would call an object: "tree", or "left tree" where there are two."""
        thing = self.things[index]
        twins = [other for other in self.things if other.kind == thing.kind]
        if len(twins) == 1:
            return thing.kind
        return f"{'left' if thing.u == min(twin.u for twin in twins) else 'right'} {thing.kind}"


def random_scene(rng: np.random.Generator, aspect: float = 1.0) -> Scene:
    """Draw the numbers of a scene that fits a picture of width / height = `aspect`."""
    horizon = rng.uniform(0.38, 0.60)
    ground = _jitter(rng, [(0.36, 0.55, 0.24), (0.55, 0.50, 0.28), (0.70, 0.60, 0.42), (0.42, 0.44, 0.40)], 0.04)
    blue = _jitter(rng, [(0.30, 0.55, 0.88), (0.42, 0.62, 0.85), (0.55, 0.68, 0.80), (0.36, 0.48, 0.70)], 0.06)
    return Scene(
        sky_top=blue,
        sky_low=clip_colour(np.array(blue) * 0.45 + np.array([0.86, 0.87, 0.86]) * 0.55),
        horizon=horizon,
        ground_far=clip_colour(np.array(ground) * 0.75 + np.array(blue) * 0.25),
        ground_near=ground,
        texture=rng.uniform(0.2, 1.0),
        mountain_colour=_jitter(rng, [(0.38, 0.42, 0.52), (0.45, 0.40, 0.42), (0.30, 0.42, 0.38)], 0.05),
        mountain_height=rng.uniform(0.08, 0.20),
        sun=(rng.uniform(0.1, max(aspect - 0.1, 0.11)), rng.uniform(0.07, horizon - 0.12), rng.uniform(0.03, 0.06)),
        light=rng.uniform(-1.0, 1.0),
        seed=int(rng.integers(2**31)),
        things=_random_things(rng, aspect, horizon),
    )


def _random_things(rng: np.random.Generator, aspect: float, horizon: float) -> tuple[Thing, ...]:
    """One to three objects side by side, far ones first; at most two of a kind, and those well apart."""
    count = 1 + int(rng.choice(3, p=NUM_THINGS_WEIGHTS))
    count = min(count, 2) if aspect < 0.9 else count
    kinds = [KINDS[number] for number in rng.permutation(len(KINDS))[:count]]
    if count > 1 and rng.random() < TWIN_SHARE:
        kinds[1] = kinds[0]
    slots = rng.permutation(count)
    slot = aspect / count
    things = [
        Thing(
            kind=kind,
            colour=_colour_for(kind, rng),
            u=(place + 0.5 + rng.uniform(-0.14, 0.14)) * slot,
            v=rng.uniform(max(horizon + 0.12, 0.64), 0.90),
            size=min(rng.uniform(0.20, 0.38), 0.8 * slot) * (0.85 if kind == "car" else 1.0),
        )
        for kind, place in zip(kinds, slots, strict=True)
    ]
    return tuple(sorted(things, key=lambda thing: thing.v))


def _colour_for(kind: str, rng: np.random.Generator) -> Colour:
    names = [name for name in COLOURS if kind != "tree" or name != "white"]
    name = "green" if kind == "tree" and rng.random() < 0.6 else names[rng.integers(len(names))]
    return clip_colour(np.array(COLOURS[name]) + rng.normal(0, 0.03, 3))


def draw(scene: Scene, width: int, height: int) -> Picture:
    """The picture of a scene, (H, W, 3) in [0, 1]."""
    u, v, pixel = grid(width, height)
    rng = np.random.default_rng(scene.seed)
    picture = mix(rgb(scene.sky_top), rgb(scene.sky_low), np.clip(v / scene.horizon, 0, 1) ** 1.3)
    picture = _draw_sun(picture, scene, u, v, pixel)
    picture = _draw_clouds(picture, scene, rng, u, v)
    picture = _draw_mountains(picture, scene, rng, u, v, pixel)
    picture = _draw_ground(picture, scene, rng, u, v, pixel)
    for thing in scene.things:
        draw_shadow(picture, thing, scene.light, u, v, scene.horizon)
        draw_thing(picture, thing, scene.light, scene.seed, u, v, pixel)
    for thing in scene.things:
        picture = draw_glow(picture, thing, u, v)
    return np.clip(picture, 0, 1).astype(np.float32)


def draw_mask(scene: Scene, index: int, width: int, height: int) -> NDArray[np.bool_]:
    """True where one object is seen, (H, W): nearer objects cover it."""
    u, v, pixel = grid(width, height)
    mask = silhouette(scene.things[index], u, v, pixel)
    for nearer in scene.things[index + 1 :]:
        mask &= ~silhouette(nearer, u, v, pixel)
    return mask


def _jitter(rng: np.random.Generator, choices: list[Colour], spread: float) -> Colour:
    return clip_colour(np.array(choices[rng.integers(len(choices))]) + rng.normal(0, spread, 3))


def _draw_sun(picture, scene: Scene, u, v, pixel):
    su, sv, radius = scene.sun
    distance = np.hypot(u - su, v - sv)
    picture = mix(picture, rgb((1.0, 0.97, 0.86)), 0.5 * np.exp(-distance / (3 * radius)))
    return mix(picture, rgb((1.0, 0.98, 0.90)), cover(distance - radius, 2 * pixel))


def _draw_clouds(picture, scene: Scene, rng: np.random.Generator, u, v):
    """Clouds cover more of the sky, and turn grey, as `scene.clouds` goes to 1."""
    field = noise(rng, u, v * 2.5, 2.2, 4)
    threshold = rng.uniform(0.48, 0.62) * (1 - 0.75 * scene.clouds)
    cloud = np.clip((field - threshold) * 4, 0, 1) * np.clip((scene.horizon - v) * 5, 0, 1)
    grey = rgb((0.96, 0.96, 0.97)) * (1 - 0.30 * scene.clouds * (0.5 + field))[..., None]
    return mix(picture, grey, (0.8 + 0.15 * scene.clouds) * cloud)


def _draw_mountains(picture, scene: Scene, rng: np.random.Generator, u, v, pixel):
    for layer, fade in ((1.0, 0.45), (0.6, 0.15)):
        peaks = noise(rng, u[:1], v[:1], rng.uniform(1.5, 3.0), 5)[0] * 1.6 - 0.3
        ridge = scene.horizon - np.clip(peaks, 0.05, 1.2) * scene.mountain_height * layer
        colour = rgb(scene.mountain_colour) * (1 - fade) + rgb(scene.sky_low) * fade
        shade = 0.85 + 0.3 * noise(rng, u, v, 14.0, 3)[..., None]
        inside = cover(ridge[None] - v, 2 * pixel)
        picture = mix(picture, colour * shade, inside)
        snow = cover(v - (scene.horizon - 0.72 * scene.mountain_height * layer), 0.02) * inside
        picture = mix(picture, rgb((0.95, 0.96, 0.98)), 0.7 * snow)
    return picture


def _draw_ground(picture, scene: Scene, rng: np.random.Generator, u, v, pixel):
    depth = np.clip((v - scene.horizon) / (1 - scene.horizon), 0, 1)
    colour = mix(rgb(scene.ground_far), rgb(scene.ground_near), depth)
    perspective = 1.0 / (0.15 + depth)
    grass = noise(rng, u * 3.0, v * 5.0 * (1 + 0.5 / (0.3 + scene.horizon)), 6.0, 4) - 0.5
    colour = colour * (1 + 0.7 * scene.texture * grass * np.clip(1.4 - 0.12 * perspective, 0.3, 1.0))[..., None]
    return mix(picture, colour, cover(scene.horizon - v, 2 * pixel))
