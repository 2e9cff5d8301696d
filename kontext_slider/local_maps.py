"""The local affine maps from a source to a frame, and where no such map explains the frame. Functions of `transfer.py`.

Source and frame are a guide and a target (3, h, w) of one size, sRGB in [0, 1]. A map has 12 numbers at every place:
the rows of a 3 x 3 matrix A and then an offset b, `target = A guide + b`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

RADIUS = 4  # of a window, pixels of that size
RIDGE = 1e-3  # pulls a window's map to the map of the whole picture, as strong as this variance of colour
WHOLE_ERROR = 0.1  # beyond such an error a place counts little for the map of the whole picture
WHOLE_ROUNDS = 4
# Of the rule for the detail, chosen on 137 edits that no benchmark reports (docs/full-size.md)
TRIAL_RADIUS = 3  # of the window in which two ways are compared, pixels
TRIAL_NOISE = 0.03  # differences of that size say little: the whole picture's answer counts there
BOUNDS = (0.75, 1.0)  # of the share of the frame in the better mixture: from here on there is detail, or nothing else
PICTURE_BOUNDS = (0.85, 0.95)  # the same for the whole picture
REGION_BOUNDS = (0.5, 0.8)  # the same for a region, without which the whole picture's answer does not count in it
REGION = 4  # what regions are wider than windows
PICTURE_PULL = 0.4  # how far the whole picture's answer lowers BOUNDS


def fit_maps(guide: Tensor, target: Tensor, size: tuple[int, int]) -> Tensor:
    """(12, *size): the maps from `guide` to `target`, (3, h, w) each, fitted at `size` (rows, columns)."""
    return _fit_windows(resize(guide, size, "area"), resize(target, size, "area"))


def _fit_windows(guide: Tensor, target: Tensor) -> Tensor:
    """(12, h, w) of the map around every place: ridge regression of target on guide (3, h, w) in each window, drawn to
    the map of most of the picture where a window's colours say nothing; then the mean of all windows over a place."""
    whole = _whole_map(guide, target)  # (3, 3)
    rest = target - torch.einsum("ij,jhw->ihw", whole, guide)
    mean_guide, mean_rest = _box(guide), _box(rest)
    covariance = _box_of_products(guide, guide) - mean_guide[:, None] * mean_guide  # (3, 3, h, w)
    cross = _box_of_products(rest, guide) - mean_rest[:, None] * mean_guide
    ridge = RIDGE * torch.eye(3)
    matrix = torch.linalg.solve(covariance.permute(2, 3, 0, 1) + ridge, cross.permute(2, 3, 1, 0))  # A^T per window
    matrix = matrix.permute(3, 2, 0, 1)
    offset = mean_rest - torch.einsum("ijhw,jhw->ihw", matrix, mean_guide)
    affine = _box(torch.cat([matrix.flatten(0, 1), offset]))
    affine[:9] += whole.reshape(9, 1, 1)
    return affine


def _whole_map(guide: Tensor, target: Tensor) -> Tensor:
    """The matrix of the regression over the whole picture, (3, 3), near the identity where the picture has one colour.

    Robust, by weights that are made anew a few times: what is edited in one place only does not turn the others.
    """
    flat, wanted = guide.flatten(1), target.flatten(1)
    few = 1e-4 * torch.eye(3)
    weights = torch.ones_like(flat[:1])
    for _ in range(WHOLE_ROUNDS):
        total = weights.sum()
        centred, rest = (each - (weights * each).sum(1, keepdim=True) / total for each in (flat, wanted))
        covariance, cross = (weights * centred @ other.T / total for other in (centred, rest))
        matrix = torch.linalg.solve(covariance + few, cross + few).T
        weights = 1 / (1 + (rest - matrix @ centred).square().sum(0, keepdim=True) / WHOLE_ERROR**2)
    return matrix


def detail_weights(guide: Tensor, target: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """How much of each place the map does not explain, (1, h, w) from 0 to 1, in two parts: where the residual is added
    to the map, so that the photograph keeps its detail, and where the enlarged frame takes the map's place.

    Both ways are tried one octave down, where the answer is known: from pictures of half the size they predict the
    frame itself. The weight is that of the better mixture of the two predictions, by least squares in small windows.
    Where they hardly differ, and noise decides, the answer of the whole picture counts, if the region agrees; there,
    and only there, the frame takes the map's place.
    """
    half = guide.shape[1] // 2, guide.shape[2] // 2
    small_guide, small_target = resize(guide, half, "area"), resize(target, half, "area")
    maps = fit_maps(small_guide, small_target, (max(1, grid[0] // 2), max(1, grid[1] // 2)))
    mapped = apply_maps(enlarge(maps, guide.shape[1:], "bilinear"), guide)
    difference = enlarge(small_target, guide.shape[1:], "bicubic") - mapped
    trial = torch.stack([((target - mapped) * difference).mean(0), difference.square().mean(0)])  # (2, h, w)
    picture = _ramp(_share(trial.mean((1, 2), keepdim=True)), *PICTURE_BOUNDS)
    region = _ramp(_share(enlarge(_regional_mean(trial), guide.shape[1:], "bilinear")), *REGION_BOUNDS)
    expected, noise = picture * region, TRIAL_NOISE**2
    towards, power = _box(trial, TRIAL_RADIUS)
    local = (towards + noise * expected) / (power + noise)
    weight = _ramp(local + PICTURE_PULL * expected, *BOUNDS)[None]
    return weight * (1 - expected), weight * expected


def _share(trial: Tensor) -> Tensor:
    """The share of the frame in the better mixture, of mean products (2, ...)."""
    return trial[0] / (trial[1] + 1e-5)


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 up to `low`, 1 from `high` on."""
    return ((values - low) / (high - low)).clamp(0, 1)


def _box(planes: Tensor, radius: int = RADIUS) -> Tensor:
    """Means of (C, h, w) over square windows, which end at the picture's edge. Two matrix products are faster here
    than torch's pooling."""
    return _window_means(planes.shape[1], radius) @ planes @ _window_means(planes.shape[2], radius).T


def _window_means(n: int, radius: int) -> Tensor:
    """(n, n): row i takes the mean of the places at most `radius` from i."""
    places = torch.arange(n)
    near = ((places[:, None] - places).abs() <= radius).float()
    return near / near.sum(1, keepdim=True)


def _box_of_products(first: Tensor, second: Tensor) -> Tensor:
    products = first[:, None] * second[None]  # (3, 3, h, w)
    return _box(products.flatten(0, 1)).reshape(products.shape)


def _regional_mean(planes: Tensor) -> Tensor:
    """Over wide windows, at a reduced size."""
    return _box(resize(planes, (max(1, planes.shape[1] // REGION), max(1, planes.shape[2] // REGION)), "area"))


def apply_maps(affine: Tensor, pixels: Tensor) -> Tensor:
    """`A pixels + b` at every place: affine (12, H, W), pixels (3, H, W)."""
    result = affine[9:]
    for channel in range(3):
        result = torch.addcmul(result, affine[channel:9:3], pixels[channel])
    return result


def resize(planes: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return planes if planes.shape[1:] == size else interpolate(planes[None], size, mode=mode)[0]


def enlarge(planes: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    return planes if planes.shape[1:] == size else interpolate(planes[None], size, mode=mode, antialias=True)[0]
