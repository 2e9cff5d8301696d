"""An edit at any size: what the model did to a small picture, done to the photograph at its own size.

Around every place the frame is nearly an affine function of the source's colours, `frame = A source + b` with a 3 x 3
matrix A and an offset b. The pair is fitted in small windows (guided filter with a colour guide: He et al. 2013; fitted
at a reduced size: He and Sun 2015; applied at another size: Chen et al. 2016), enlarged smoothly, and applied to the
photograph, whose own detail it keeps. What no affine map explains (new texture, new or moved things) is the residual:
where the fit fails, the enlarged frame takes the place of the map.

Legend: h, w sides of the model's pictures; H, W sides of the photograph; T rows of one tile; K transfers; values are
sRGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from .errors import InvalidInput

GRID_SIDE = 320  # pixels: a larger source is fitted at a reduced size, as the maps are smooth
RADIUS = 4  # of a window, pixels of that size
RIDGE = 1e-3  # pulls a window's map to the map of the whole picture, as strong as this variance of colour
NOISE = 0.025  # standard deviation that codec and sampling leave in a frame
TILE_PIXELS = 1 << 18  # of the photograph, mapped at once


@dataclass(frozen=True)
class Transfer:
    """One frame as a function of the photograph: `picture = A photograph + b + detail`, each enlarged from here.

    affine: (12, h', w'), the rows of A and then b; smooth, so that bilinear enlargement does.
    detail: (3, h, w), what is taken from the frame itself where the map does not explain it.
    detail_share: 0 to 1, how much of the edit (as squared difference to the source) the detail carries.
    """

    affine: Tensor
    detail: Tensor
    detail_share: float

    @property
    def num_bytes(self) -> int:
        """What the two take in memory."""
        return self.affine.nbytes + self.detail.nbytes

    @classmethod
    def fit(cls, source: Image.Image, frame: Image.Image) -> Transfer:
        """The transfer from `source` to `frame`, both RGB of one size. Raises InvalidInput for unequal sizes."""
        if source.size != frame.size:
            raise InvalidInput(f"Source and frame must have one size, not {source.size} and {frame.size}.")
        guide, target = _pixels(source), _pixels(frame)
        reduced = _grid_size(source.size)
        affine = _fit_windows(_resized(guide, reduced, "area"), _resized(target, reduced, "area"))
        explained = _mapped(_enlarged(affine, guide.shape[1:]), guide)
        unexplained = _unexplained(target - explained)  # (1, h, w), 0 to 1
        kept = 1 - _resized(unexplained, reduced, "area")
        edit = (target - guide).square().sum(0)
        share = float((unexplained[0] * edit).sum() / edit.sum().clamp_min(1e-9))
        return cls(affine * kept, unexplained * target, share)

    @classmethod
    def identity(cls, size: tuple[int, int]) -> Transfer:
        """The transfer that changes nothing, for model pictures of `size` (width, height)."""
        width, height = size
        columns, rows = _grid_size(size)[::-1]
        matrix = torch.cat([torch.eye(3).flatten(), torch.zeros(3)])[:, None, None]
        return cls(matrix.expand(12, rows, columns), torch.zeros(3, height, width), 0.0)

    def apply(self, photograph: Image.Image) -> Image.Image:
        """The edit of the photograph (RGB or RGBA of any size; alpha stays), at the photograph's size."""
        return _by_tiles(photograph, lambda pixels, rows: self._tile(pixels, rows, photograph.height))

    def _tile(self, pixels: Tensor, rows: slice, height: int) -> Tensor:
        """The edit of some rows of a photograph, (3, T, W)."""
        width = pixels.shape[2]
        affine = _enlarged_rows(self.affine, rows, height, width, "bilinear")
        return _mapped(affine, pixels) + _enlarged_rows(self.detail, rows, height, width, "bicubic")


def mix(transfers: Mapping[float, Transfer], strength: float) -> Transfer:
    """The transfer at `strength`, linear between the two of `transfers` (by strength) on either side of it.

    Raises InvalidInput where there are none on both sides.
    """
    known = sorted(transfers)
    if not known or not known[0] <= strength <= known[-1]:
        raise InvalidInput(f"There are no transfers on both sides of strength {strength:g}.")
    if strength in transfers:
        return transfers[strength]
    upper = next(place for place in known if place > strength)
    lower = known[known.index(upper) - 1]
    part = (strength - lower) / (upper - lower)
    below, above = transfers[lower], transfers[upper]
    return Transfer(
        torch.lerp(below.affine, above.affine, part),
        torch.lerp(below.detail, above.detail, part),
        below.detail_share + part * (above.detail_share - below.detail_share),
    )


def apply(transfers: Mapping[float, Transfer], photograph: Image.Image, strength_map: np.ndarray) -> Image.Image:
    """The edit with a strength for every pixel, linear between neighbouring transfers.

    strength_map: (H', W') floats, stretched over the photograph. Raises InvalidInput for a strength with no transfers
    on both sides, and for a map that is not two-dimensional.
    """
    wanted = check_strength_map(strength_map)
    known = sorted(transfers)
    if not known or not known[0] <= float(wanted.min()) <= float(wanted.max()) <= known[-1]:
        raise InvalidInput("The strength map goes beyond the strengths that there are transfers for.")

    def tile(pixels: Tensor, rows: slice) -> Tensor:
        strengths = _enlarged_rows(wanted[None], rows, photograph.height, photograph.width, "bilinear")
        edited = torch.zeros_like(pixels)
        for place, weight in zip(known, _hats(known, strengths), strict=True):
            if weight.any():
                edited += weight * transfers[place]._tile(pixels, rows, photograph.height)
        return edited

    return _by_tiles(photograph, tile)


def check_strength_map(strength_map: np.ndarray) -> Tensor:
    """The map as (H', W') float32. Raises InvalidInput unless it is a two-dimensional array of finite numbers."""
    values = np.asarray(strength_map)
    is_numeric = np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
    if values.ndim != 2 or values.size == 0 or not is_numeric or not np.isfinite(values).all():
        raise InvalidInput("A strength map is a two-dimensional array of numbers, one strength for every pixel.")
    return torch.from_numpy(values.astype(np.float32))


def _hats(known: list[float], strengths: Tensor) -> list[Tensor]:
    """How much each of `known` weighs at every strength: 1 there, 0 at its neighbours, linear between."""
    weights = []
    for index, place in enumerate(known):
        weight = torch.ones_like(strengths)
        if index > 0:
            weight = weight.minimum((strengths - known[index - 1]) / (place - known[index - 1]))
        if index + 1 < len(known):
            weight = weight.minimum((known[index + 1] - strengths) / (known[index + 1] - place))
        weights.append(weight.clamp(0, 1))
    return weights


def _fit_windows(guide: Tensor, target: Tensor) -> Tensor:
    """(12, h, w) of the map around every place: ridge regression of target on guide (3, h, w) in each window, drawn to
    the regression over the whole picture where a window's colours say nothing; then the mean of all windows over a
    place."""
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
    """The matrix of the regression over the whole picture, (3, 3); the identity where the picture has one colour."""
    centred = [(picture - picture.mean((1, 2), keepdim=True)).flatten(1) for picture in (guide, target)]
    few = 1e-4 * torch.eye(3)
    covariance, cross = (centred[0] @ other.T / other.shape[1] for other in centred)
    return torch.linalg.solve(covariance + few, cross + few).T


def _unexplained(residual: Tensor) -> Tensor:
    """How much of each place the map fails to explain, (1, h, w) from 0 to 1: Wiener's weight of the residual's energy
    against the noise that any frame has."""
    energy = avg_pool2d(residual.square().mean(0, keepdim=True)[None], 3, 1, 1, count_include_pad=False)[0]
    return (energy - NOISE**2).clamp_min(0) / energy.clamp_min(1e-9)


def _box(planes: Tensor) -> Tensor:
    return avg_pool2d(planes[None], 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)[0]


def _box_of_products(first: Tensor, second: Tensor) -> Tensor:
    products = first[:, None] * second[None]  # (3, 3, h, w)
    return _box(products.flatten(0, 1)).reshape(products.shape)


def _mapped(affine: Tensor, pixels: Tensor) -> Tensor:
    """`A pixels + b` at every place: affine (12, H, W), pixels (3, H, W)."""
    mapped = affine[9:].clone()
    for channel in range(3):
        mapped += affine[channel:9:3] * pixels[channel]
    return mapped


def _by_tiles(photograph: Image.Image, edit: Callable[[Tensor, slice], Tensor]) -> Image.Image:
    """`edit` of every band of rows, so that memory does not grow with the photograph but for the result."""
    result = photograph.copy()
    step = max(1, TILE_PIXELS // photograph.width)
    for top in range(0, photograph.height, step):
        rows = slice(top, min(top + step, photograph.height))
        band = photograph.crop((0, rows.start, photograph.width, rows.stop))
        edited = edit(_pixels(band.convert("RGB")), rows)
        levels = edited.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
        picture = Image.fromarray(levels.numpy())
        if photograph.mode == "RGBA":
            picture.putalpha(band.getchannel("A"))
        result.paste(picture, (0, rows.start))
    return result


def _pixels(picture: Image.Image) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(255)


def _grid_size(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the maps for model pictures of `size` (width, height)."""
    shrink = max(1.0, max(size) / GRID_SIDE)
    return max(1, round(size[1] / shrink)), max(1, round(size[0] / shrink))


def _resized(planes: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return planes if planes.shape[1:] == size else interpolate(planes[None], size, mode=mode)[0]


def _enlarged(planes: Tensor, size: tuple[int, ...]) -> Tensor:
    if planes.shape[1:] == size:
        return planes
    return interpolate(planes[None], size, mode="bilinear", antialias=True)[0]


def _enlarged_rows(planes: Tensor, rows: slice, height: int, width: int, mode: str) -> Tensor:
    """The given rows of planes (C, h, w) enlarged to (C, height, width): (C, T, W). Tiles join without a seam."""
    weights = _row_weights(planes.shape[1], height, mode)[rows]  # (T, h)
    band = torch.einsum("th,chw->ctw", weights, planes)
    if band.shape[2] == width:
        return band
    return interpolate(band[None], (band.shape[1], width), mode=mode, antialias=True)[0]


def _row_weights(short: int, long: int, mode: str) -> Tensor:
    """What each of `long` rows takes of each of `short`, (long, short)."""
    unit = torch.eye(short)[None, None]
    return interpolate(unit, (long, short), mode=mode, antialias=True)[0, 0]
