"""An edit at any size: what the model did to a small picture, done to the photograph at its own size.

Around every place the frame is nearly an affine function of the source's colours, `frame = A source + b` with a 3 x 3
matrix A and an offset b. The pair is fitted in small windows (guided filter with a colour guide: He et al. 2013; fitted
at a reduced size: He and Sun 2015; applied at another size: Chen et al. 2016), enlarged smoothly, and applied to the
photograph, whose own detail it keeps. What no affine map explains (new texture, new or moved things) is the residual,
which is enlarged and added where the fit fails; if it fails all over, as in pixel art, the enlarged frame takes the
map's place.

Legend: h, w sides of the model's pictures; H, W sides of the photograph; T, U sides of one tile; K transfers; values
are sRGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import interpolate

from .errors import InvalidInput
from .local_maps import apply_maps, detail_weights, enlarge, fit_maps, resize

GRID_SIDE = 320  # pixels: a larger source is fitted at a reduced size, as the maps are smooth
LEAST_DETAIL = 0.25 / 255  # less in every pixel is not sent to the page
TILE_PIXELS = 1 << 18  # of the photograph, mapped at once
MAP_TILE = 512  # pixels: the width of a tile with a strength for every pixel

Edit = Callable[[Tensor, slice, slice], Tensor]  # a tile of the photograph (3, T, U), its rows and columns: its edit


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

    def pack(self) -> bytes:
        """A safetensors file of half floats, for the page's shader (`ui/transfer_view.js`).

        `affine`: (3, h', w', 4), for every channel its row of A and then its b. `detail`: (h, w, 3), absent where it
        would change no level.
        """
        matrix, offset = self.affine[:9].unflatten(0, (3, 3)), self.affine[9:, None]
        tensors = {"affine": torch.cat([matrix, offset], dim=1).permute(0, 2, 3, 1).half().contiguous()}
        if self.detail.abs().max() > LEAST_DETAIL:
            tensors["detail"] = self.detail.permute(1, 2, 0).half().contiguous()
        return save(tensors)

    @classmethod
    def fit(cls, source: Image.Image, frame: Image.Image) -> Transfer:
        """The transfer from `source` to `frame`, both RGB of one size. Raises InvalidInput for unequal sizes."""
        if source.size != frame.size:
            raise InvalidInput(f"Source and frame must have one size, not {source.size} and {frame.size}.")
        guide, target = _pixels(source), _pixels(frame)
        affine = fit_maps(guide, target, _grid_size(source.size))
        added, replaced = detail_weights(guide, target, _grid_size(source.size))  # (1, h, w), 0 to 1
        residual = target - apply_maps(enlarge(affine, guide.shape[1:], "bilinear"), guide)
        edit = (target - guide).square().sum(0)
        share = float(((added + replaced)[0] * edit).sum() / edit.sum().clamp_min(1e-9))
        kept = affine * (1 - resize(replaced, _grid_size(source.size), "area"))
        return cls(kept, replaced * target + added * residual, share)

    @classmethod
    def identity(cls, size: tuple[int, int]) -> Transfer:
        """The transfer that changes nothing, for model pictures of `size` (width, height)."""
        width, height = size
        columns, rows = _grid_size(size)[::-1]
        matrix = torch.cat([torch.eye(3).flatten(), torch.zeros(3)])[:, None, None]
        return cls(matrix.expand(12, rows, columns), torch.zeros(3, height, width), 0.0)

    def apply(self, photograph: Image.Image) -> Image.Image:
        """The edit of the photograph (RGB or RGBA of any size; alpha stays), at the photograph's size."""
        return _by_tiles(photograph, self._enlarged_to(photograph.size), photograph.width)

    def _enlarged_to(self, size: tuple[int, int]) -> Edit:
        """The edit of any tile of a photograph of `size`."""
        affine, detail = _enlarger(self.affine, size, "bilinear"), _enlarger(self.detail, size, "bicubic")
        return lambda pixels, rows, columns: apply_maps(affine(rows, columns), pixels).add_(detail(rows, columns))


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
    ends = torch.tensor(known[:1] + known[-1:])  # in the map's own precision
    if not known or not ends[0] <= wanted.min() <= wanted.max() <= ends[1]:
        raise InvalidInput("The strength map goes beyond the strengths that there are transfers for.")

    map_of = _enlarger(wanted[None], photograph.size, "bilinear")
    edits = {place: transfers[place]._enlarged_to(photograph.size) for place in known}

    def tile(pixels: Tensor, rows: slice, columns: slice) -> Tensor:
        edited = torch.zeros_like(pixels)
        for place, weight in zip(known, _hats(known, map_of(rows, columns)), strict=True):
            if weight.any():
                edited += weight * edits[place](pixels, rows, columns)
        return edited

    return _by_tiles(photograph, tile, MAP_TILE)  # few strengths meet in a square


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


def _by_tiles(photograph: Image.Image, edit: Edit, width: int) -> Image.Image:
    """`edit` of every tile, at most `width` wide: only the result takes memory that grows with the photograph."""
    result = photograph.copy()
    width = min(width, photograph.width)
    for rows in _parts(photograph.height, max(1, TILE_PIXELS // width)):
        for columns in _parts(photograph.width, width):
            tile = photograph.crop((columns.start, rows.start, columns.stop, rows.stop))
            edited = edit(_pixels(tile.convert("RGB")), rows, columns)
            levels = edited.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
            picture = Image.fromarray(levels.numpy())
            if photograph.mode == "RGBA":
                picture.putalpha(tile.getchannel("A"))
            result.paste(picture, (columns.start, rows.start))
    return result


def _parts(length: int, step: int) -> list[slice]:
    """Of 0 .. length, `step` long each, the last one shorter."""
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _pixels(picture: Image.Image) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(255)


def _grid_size(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the maps for model pictures of `size` (width, height)."""
    shrink = max(1.0, max(size) / GRID_SIDE)
    return max(1, round(size[1] / shrink)), max(1, round(size[0] / shrink))


def _enlarger(planes: Tensor, size: tuple[int, int], mode: str) -> Callable[[slice, slice], Tensor]:
    """A function of rows and columns that enlarges these alone: planes (C, h, w), of the picture of `size` (width,
    height), to a tile (C, T, U). Tiles join without a seam."""
    width, height = size
    down, across = _weights(planes.shape[1], height, mode), _weights(planes.shape[2], width, mode)

    def enlarged(rows: slice, columns: slice) -> Tensor:
        weights, needed = _needed(down[rows])
        band = torch.einsum("th,chw->ctw", weights, planes[:, needed])
        if columns == slice(0, width):
            return enlarge(band, (band.shape[1], width), mode)
        weights, needed = _needed(across[columns])
        return band[..., needed] @ weights.T

    return enlarged


@lru_cache(maxsize=8)
def _weights(length: int, enlarged: int, mode: str) -> Tensor:
    """(enlarged, length): how much each of `length` values counts in each of the enlarged ones."""
    return interpolate(torch.eye(length)[None, None], (enlarged, length), mode=mode, antialias=True)[0, 0]


def _needed(weights: Tensor) -> tuple[Tensor, slice]:
    """The columns of `weights` in which something counts, and which these are."""
    counts = (weights != 0).any(0).nonzero().flatten()
    needed = slice(int(counts[0]), int(counts[-1]) + 1)
    return weights[:, needed], needed
