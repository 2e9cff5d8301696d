"""Pictures without a scene, for edits of the whole picture: drawn collages, and crops of photographs from a package.

Legend: u to the right in picture heights, v downwards in [0, 1]; pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .paint import Picture, cover, grid, mix, noise, rgb

# Sample pictures of scikit-image (public domain or CC0), none of them in assets/photos.
PHOTOGRAPHS = (
    "motorcycle_left.png", "motorcycle_right.png", "brick.png", "gravel.png", "grass.png", "hubble_deep_field.jpg",
    "retina.jpg", "coins.png", "camera.png", "moon.png", "clock_motion.png",
)  # fmt: skip


def draw_collage(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Dead leaves (many small shapes over few large ones, the statistics of photographs) with textures, stripes,
    grain and uneven light, (H, W, 3) in [0, 1]."""
    u, v, pixel = grid(width, height)
    vivid = rng.random()
    picture = mix(_dull(rng, vivid), _dull(rng, vivid), noise(rng, u, v, rng.uniform(1, 4), 3))
    for radius in sorted(np.clip(0.03 * (1 + rng.pareto(1.2, rng.integers(4, 40))), 0, 0.4), reverse=True):
        distance = _random_shape(rng, u, v, width / height, radius)
        fill = _dull(rng, vivid) * (0.6 + 0.8 * noise(rng, u, v, rng.uniform(2, 24), 2)[..., None])
        if rng.random() < 0.3:
            angle, period = rng.uniform(0, np.pi), rng.uniform(0.02, 0.12)
            wave = np.sin((u * np.cos(angle) + v * np.sin(angle)) * 2 * np.pi / period)
            fill = fill * (0.75 + 0.25 * wave)[..., None]
        picture = mix(picture, fill, cover(distance, pixel * rng.uniform(1, 6)))
    light = 0.6 + 0.8 * noise(rng, u, v, rng.uniform(0.7, 2), 2)
    grain = rng.normal(0, rng.uniform(0, 0.04), picture.shape[:2])
    exposure = rng.uniform(0.6, 1.3)
    return np.clip(picture * (light * exposure)[..., None] + grain[..., None], 0, 1).astype(np.float32)


def crop_photograph(rng: np.random.Generator, width: int, height: int) -> Picture:
    """A random crop of a sample photograph, mirrored, tinted and lit at random, (H, W, 3) in [0, 1].

    ImportError if scikit-image, which carries the photographs, is not installed."""
    photo = _photograph(PHOTOGRAPHS[rng.integers(len(PHOTOGRAPHS))])
    most = min(photo.width / width, photo.height / height)
    scale = min(most, 1.0) if most < 1 else np.exp(rng.uniform(0, np.log(most)))
    left, top = rng.uniform(0, photo.width - scale * width), rng.uniform(0, photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    picture = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS, box), dtype=np.float32) / 255
    picture = picture[:, ::-1] if rng.random() < 0.5 else picture
    tint = rng.uniform(0.8, 1.2, 3) * rng.uniform(0.8, 1.2)
    return np.clip(picture ** rng.uniform(0.7, 1.4) * tint, 0, 1).astype(np.float32)


def put_under_sky(rng: np.random.Generator, picture: Picture) -> Picture:
    """A smooth bright sky, blue to white, above a ragged horizon with a few towers: (H, W, 3) in [0, 1], as `picture`.

    Photographs of places are half sky; crops of the sample photographs show none."""
    height, width, _ = picture.shape
    u, v, pixel = grid(width, height)
    blue, pale = rng.uniform((0.1, 0.4, 0.7), (0.6, 0.8, 1.0)), rng.uniform(0.75, 1.0)
    zenith = rgb(blue + (pale - blue) * rng.random())
    haze = rgb(rng.uniform(0.8, 1.15) * rng.uniform((1.0, 0.95, 0.85), (1.0, 1.0, 1.05)))
    horizon = rng.uniform(0.2, 0.8)
    sky = mix(zenith, haze, np.clip(v / horizon, 0, 1) ** rng.uniform(0.5, 3))
    clouds = noise(rng, u, v, rng.uniform(1, 6), 3) * rng.uniform(0, 0.5) * (rng.random() < 0.5)
    sky = mix(sky, rng.uniform(0.85, 1.1), clouds)
    edge = horizon + rng.uniform(0, 0.4) * (noise(rng, u, np.zeros_like(v), rng.uniform(1, 5), 4) - 0.5)
    for _ in range(rng.integers(0, 6)):
        middle, half, top = rng.uniform(0, width / height), rng.uniform(0.01, 0.1), horizon - rng.uniform(0, 0.3)
        edge = np.where(np.abs(u - middle) < half, np.minimum(edge, top), edge)
    sky = sky + rng.normal(0, rng.uniform(0, 0.01), picture.shape[:2])[..., None]
    return np.clip(mix(picture, sky, cover(v - edge, pixel * rng.uniform(1, 3))), 0, 1).astype(np.float32)


@lru_cache(maxsize=len(PHOTOGRAPHS))
def _photograph(name: str) -> Image.Image:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ImportError("Training needs the sample photographs of scikit-image. Run: pip install scikit-image")
    with Image.open(Path(spec.origin).parent / "data" / name) as file:
        return file.convert("RGB")


def _dull(rng: np.random.Generator, vivid: float) -> NDArray:
    colour = rng.random(3)
    return rgb(colour.mean() + vivid * (colour - colour.mean()))


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
            return np.hypot(x, y) - a * (0.5 + noise(rng, u, v, 1.0 / radius, 2))
        case _:
            return x
