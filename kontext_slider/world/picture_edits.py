"""Edits of the whole picture, as functions of their own parameter: a ground truth on any picture, photographs included.

In between, a picture edit moves as the thing itself would: light by exposure, haze and water by Beer's law, and many
by a *front*, so that shadows darken before lights and near dunes rise before far ones. A cross-fade of source and
edit is therefore not the ground truth. Edits that the slider may carry beyond 1 are defined up to strength 1.5.

Edits whose strokes, lines or blur have a size in pixels take `unit`: how many pixels of this picture stand for one at
the size that the model works at. So a picture four times as large gets strokes four times as large.

Legend: pictures (H, W, 3) float32 in [0, 1]; s a strength, one number or (H, W, 1) for every pixel its own; order a map
in [0, 1] of what goes first (0) and last (1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad

from .paint import Picture, Strength

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def night(picture: Picture, s: Strength) -> Picture:
    """Less light, bluer, duller, with deeper shadows; shadows first."""
    p = _front(s, _grey(picture), 0.6)
    dull = _lerp(picture, _grey(picture), 0.55 * np.minimum(p, 1.2))
    return _clip(dull ** (1 + 0.5 * p) * _rgb(0.34, 0.42, 0.66) ** p)


def sepia(picture: Picture, s: Strength) -> Picture:
    """An old print: brown tones, lights first."""
    brown = _clip(_grey(picture) * _rgb(1.08, 0.89, 0.66) + _rgb(0.04, 0.02, 0.0))
    return _lerp(picture, brown, _front(s, 1 - _grey(picture), 0.6))


def black_and_white(picture: Picture, s: Strength) -> Picture:
    """Grey tones with a little more contrast."""
    return _lerp(picture, _clip((_grey(picture) - 0.5) * 1.15 + 0.5), s)


def fog(picture: Picture, s: Strength) -> Picture:
    """Koschmieder's law: transmission exp(-density), densest in the upper half where the distance is."""
    through = np.exp(-s * (1.8 - 1.0 * np.clip(2 * _rows(picture) - 0.9, 0, 1)))
    return _clip(picture * through + _rgb(0.85, 0.87, 0.89) * (1 - through))


def snow(picture: Picture, s: Strength) -> Picture:
    """A white cover and a pale sky; what catches the light is white first."""
    p = _front(s, 1 - _grey(picture), 0.8)
    white = np.clip(0.25 + 0.65 * _rows(picture), 0, 0.85) * (0.55 + 0.45 * _grey(picture))
    return _lerp(_lerp(picture, _grey(picture), 0.5 * np.minimum(p, 1)), _rgb(0.93, 0.95, 0.99), p * white)


def sunset(picture: Picture, s: Strength) -> Picture:
    """Low orange light, violet shadows, a glow in the upper half; it starts in the shadows."""
    warm = _lerp(_rgb(0.16, 0.05, 0.22), _rgb(1.08, 0.74, 0.48), _grey(picture)) * 0.55 + 0.5 * picture * _rgb(
        1.05, 0.72, 0.6
    )
    glow = _rgb(0.30, 0.10, -0.02) * np.exp(-(((_rows(picture) - 0.42) / 0.22) ** 2))
    return _lerp(picture, _clip(warm * 0.85 + glow), _front(s, _grey(picture), 0.7))


def pencil(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Colour-dodge drawing: brightness over blurred brightness leaves dark lines on white paper. Colour goes first."""
    grey = _grey(picture)
    lines = _clip((grey + 0.02) / (_blur(grey, 3.0 * unit) + 0.02)) ** 3
    return _lerp(_lerp(picture, grey, _at_most(1.0, 1.6 * s)), _lerp(lines, grey, 0.12), s**1.3)


def autumn(picture: Picture, s: Strength) -> Picture:
    """Greens turn to orange and brown, the light turns warm."""
    red, green, blue = picture[..., 0:1], picture[..., 1:2], picture[..., 2:3]
    leaf = np.clip((green - np.maximum(red * 0.9, blue)) * 6 + 0.2, 0, 1)
    turned = np.concatenate([np.clip(green * 1.35, 0, 1), green * 0.72, blue * 0.45], -1)
    return _clip(_lerp(picture, turned, s * leaf) * _rgb(1.08, 0.97, 0.82) ** s)


def underwater(picture: Picture, s: Strength) -> Picture:
    """Water swallows red first, then green, and more of both further down; blue-green light comes back."""
    depth = s * (0.7 + 0.9 * _rows(picture))
    through = np.exp(-depth * _rgb(1.9, 0.55, 0.4))
    return _clip(picture * through + _rgb(0.02, 0.36, 0.46) * (1 - np.exp(-0.8 * depth)))


def comic(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Few flat tones, strong colours, ink along the edges."""
    vivid = _clip(_lerp(_grey(picture), picture, 1 + 0.5 * s))
    ink = np.clip((_slope(_blur(_grey(picture), 1.0 * unit)) * unit - 0.03) * 9, 0, 1)
    return _clip(_tones(vivid, 4, 4.0**s) * (1 - s * ink))


def posterise(picture: Picture, s: Strength) -> Picture:
    """Five tones of each colour, ever harder between them."""
    return _tones(picture, 4, 8.0**s)


def oil(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Brush strokes that grow to nine pixels (Kuwahara's filter), and deeper colours."""
    step, rest = divmod(4 * _at_most(1.0, s), 1)
    finer, coarser = (
        _layer_at(number, 4, lambda radius: _kuwahara(picture, radius * unit))
        for number in (step, _at_most(4, step + 1))
    )
    strokes = _lerp(finer, coarser, rest)
    return _clip(_lerp(_grey(strokes), strokes, 1 + 0.35 * s))


def watercolour(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Pale washes with dark rims on white paper, light tones first."""
    wash = _lerp(_kuwahara(picture, 3 * unit), 1.0, 0.32)
    rim = np.clip(_slope(_blur(_grey(picture), 1.5 * unit)) * unit * 4 - 0.06, 0, 0.45)
    return _lerp(picture, _clip(wash * (1 - rim)), _front(s, 1 - _grey(picture), 0.6))


def pixel_art(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Squares of 8 pixels."""
    height, width, _ = picture.shape
    side = 8 * unit
    blocks = picture.reshape(height // side, side, width // side, side, 3).mean((1, 3))
    return _lerp(picture, blocks.repeat(side, 0).repeat(side, 1), s)


def neon(picture: Picture, s: Strength) -> Picture:
    """Two-tone night light: dark violet shadows, magenta middle, cyan lights; shadows first."""
    grey = _grey(picture)
    low = _lerp(_rgb(0.06, 0.02, 0.18), _rgb(0.90, 0.12, 0.62), np.clip(grey * 2, 0, 1))
    return _lerp(picture, _lerp(low, _rgb(0.35, 0.98, 1.0), np.clip(grey * 2 - 1, 0, 1)), _front(s, grey, 0.7))


def dreamy(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Soft focus: the blurred picture is screened over it."""
    return _clip(1 - (1 - picture) * (1 - 0.55 * s * _blur(picture, 4.0 * unit)))


def brighter(picture: Picture, s: Strength) -> Picture:
    """More exposure, with soft highlights."""
    return _clip(1 - (1 - picture) ** (1 + 1.1 * s))


def rain(picture: Picture, s: Strength, unit: int = 1) -> Picture:
    """Grey, wet light: less colour, a low sky, and every light smeared downwards by the water."""
    smeared = _layer_at(np.round(9 * s), 9, lambda length: _smear(picture, length * unit))
    dull = _lerp(smeared, _grey(smeared), 0.6 * s)
    veil = 0.45 * s * (1 - 0.6 * _rows(picture))
    return _clip(_lerp(dull, _rgb(0.58, 0.62, 0.67), veil) * _rgb(0.80, 0.84, 0.90) ** s)


def desert(picture: Picture, s: Strength) -> Picture:
    """Sand from below: warm dust over everything, most in the distance."""
    sand = _lerp(_rgb(0.42, 0.25, 0.13), _rgb(1.0, 0.87, 0.64), _grey(picture)) * 0.78 + 0.22 * picture
    dust = _lerp(sand, _rgb(0.92, 0.76, 0.52), 0.35 * (1 - _rows(picture)))
    return _lerp(picture, _clip(dust), _front(s, 1 - _rows(picture), 0.8))


def _front(s: Strength, order, width: float):
    """How far each place is when the whole is at `s`: from 0, where `order` is high, to max(1, s)."""
    highest = np.maximum(s, 1) if isinstance(s, np.ndarray) else max(1.0, s)
    return np.clip((1 + width) * s - width * order, 0, highest)


def _at_most(limit: float, s: Strength) -> Strength:
    return np.minimum(s, limit) if isinstance(s, np.ndarray) else min(limit, s)


def _layer_at(number: Strength, highest: int, layer: Callable[[int], Picture]) -> Picture:
    """`layer` of a whole number from 0 to `highest`, or each pixel of the layer that it asks for."""
    if not isinstance(number, np.ndarray):
        return layer(int(number))
    return np.choose(number.astype(int), [layer(each) for each in range(highest + 1)])


def _tones(picture: Picture, count: int, hardness: Strength) -> Picture:
    """`count` steps of brightness in each colour; hardness 1 leaves the picture as it is."""
    steps = picture * count
    low = np.floor(steps)
    return _clip((low + np.clip((steps - low - 0.5) * hardness + 0.5, 0, 1)) / count)


def _clip(picture) -> Picture:
    return np.clip(picture, 0, 1).astype(np.float32)


def _lerp(a, b, weight) -> Picture:
    return np.asarray(a + (b - a) * weight, dtype=np.float32)


def _rgb(*colour: float) -> Picture:
    return np.array(colour, dtype=np.float32)


def _grey(picture: Picture) -> Picture:
    return (picture @ LUMA)[..., None].repeat(3, -1)


def _rows(picture: Picture) -> Picture:
    """0 at the top edge to 1 at the bottom edge, (H, 1, 1)."""
    return ((np.arange(picture.shape[0], dtype=np.float32) + 0.5) / picture.shape[0])[:, None, None]


def _planes(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[:, None]  # (3, 1, H, W)


def _blur(picture: Picture, sigma: float) -> Picture:
    """Gaussian of `sigma` pixels, edges repeated."""
    radius = round(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    planes = conv2d(pad(_planes(picture), (radius, radius, 0, 0), mode="replicate"), kernel[:, :, None])
    planes = conv2d(pad(planes, (0, 0, radius, radius), mode="replicate"), kernel[..., None])
    return planes[:, 0].numpy().transpose(1, 2, 0)


def _smear(picture: Picture, length: int) -> Picture:
    """Lights run down by up to `length` pixels: the brightest of what stands above, half mixed in."""
    planes = pad(_planes(picture), (0, 0, length, 0), mode="replicate")
    windows = planes.unfold(2, length + 1, 1)  # (3, 1, H, W, length + 1)
    run = (windows.mean(-1) + windows.amax(-1)) / 2
    return _lerp(picture, run[:, 0].numpy().transpose(1, 2, 0), 0.7)


def _slope(picture: Picture) -> Picture:
    """Length of the brightness gradient per pixel, (H, W, 3)."""
    down, right = np.gradient(picture, axis=(0, 1))
    return np.hypot(down, right)


def _kuwahara(picture: Picture, radius: int) -> Picture:
    """Kuwahara et al. 1976: the mean of whichever of the four squares of radius + 1 beside a pixel varies least."""
    if radius == 0:
        return picture
    height, width, _ = picture.shape
    planes = pad(_planes(picture), [radius] * 4, mode="replicate")
    mean = avg_pool2d(planes, radius + 1, stride=1)
    variance = (avg_pool2d(planes**2, radius + 1, stride=1) - mean**2).sum(0)  # (1, H + radius, W + radius)
    corners = [(top, left) for top in (0, radius) for left in (0, radius)]
    choice = torch.stack([variance[0, t : t + height, x : x + width] for t, x in corners]).argmin(0)
    means = torch.stack([mean[:, 0, t : t + height, x : x + width] for t, x in corners])  # (4, 3, H, W)
    chosen = means.gather(0, choice.expand(1, 3, height, width))[0]
    return chosen.numpy().transpose(1, 2, 0)
