"""Frames that drift: some large models move or zoom the picture by a few pixels, which a local map cannot explain.

The shift is measured by phase correlation in blocks of source and frame, and one shift and one zoom are fitted to them
all. It counts only where most blocks agree and where undoing it makes the frame much more like the source.

Legend: h, w sides of source and frame; N blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import affine_grid, grid_sample

from .transfer import Transfer

BLOCKS = 5  # a side
LEAST_DRIFT = 1.0  # pixels that the farthest corner moves; less is left as it is
MAX_DRIFT = 0.06  # of the longer side; blocks that seem to move farther show something new
AGREEMENT = 1.0  # pixels within which a block agrees with the common drift
MOST = 0.6  # share of the blocks that must agree
GAIN = 0.8  # of the edges' difference to the source that may be left once the drift is undone


@dataclass(frozen=True)
class Drift:
    """The frame shows at `centre + scale * (place - centre) + shift` what the source has at `place`, in pixels."""

    shift: tuple[float, float]  # to the right, downwards
    scale: float

    def undo(self, frame: Image.Image) -> Image.Image:
        """The frame with everything back in its place; what it does not show is filled from its edge."""
        width, height = frame.size
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)[None].float()
        shift = [2 * self.shift[0] / width, 2 * self.shift[1] / height]
        theta = torch.tensor([[[self.scale, 0.0, shift[0]], [0.0, self.scale, shift[1]]]], dtype=torch.float32)
        grid = affine_grid(theta, list(pixels.shape), align_corners=False)
        moved = grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)
        return Image.fromarray(moved[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())


def find_drift(source: Image.Image, frame: Image.Image) -> Drift | None:
    """How `frame` has moved and zoomed against `source` (RGB of one size), or None where that is not significant."""
    places, shifts = _block_shifts(_edges(source), _edges(frame))
    if len(places) < BLOCKS:
        return None
    drift, agrees = _common_drift(places, shifts, max(source.size))
    corner = np.abs(drift.shift) + np.abs(drift.scale - 1) * np.array(source.size) / 2
    if agrees < MOST or np.hypot(*corner) < LEAST_DRIFT:
        return None
    before, after = (_difference(source, picture) for picture in (frame, drift.undo(frame)))
    return drift if after < GAIN * before else None


def fit_in_place(source: Image.Image, frame: Image.Image) -> tuple[Transfer, Drift | None]:
    """The transfer of a frame that may have drifted, and the drift that was undone before the fit."""
    drift = find_drift(source, frame)
    return Transfer.fit(source, drift.undo(frame) if drift else frame), drift


def _block_shifts(source: NDArray, frame: NDArray) -> tuple[NDArray, NDArray]:
    """Where blocks stand (N, 2), from the centre, and how far each has moved (N, 2), as (right, down); blocks without
    any edge are left out."""
    from skimage.registration import phase_cross_correlation  # takes most of a second to import

    height, width = source.shape
    side_y, side_x = 2 * height // (BLOCKS + 1), 2 * width // (BLOCKS + 1)  # blocks overlap by half
    window = np.outer(np.hanning(side_y), np.hanning(side_x))
    places, shifts = [], []
    for top in np.linspace(0, height - side_y, BLOCKS).astype(int):
        for left in np.linspace(0, width - side_x, BLOCKS).astype(int):
            first, second = (edges[top : top + side_y, left : left + side_x] for edges in (source, frame))
            if min(first.std(), second.std()) < 1e-3:
                continue
            moved, _, _ = phase_cross_correlation(second * window, first * window, upsample_factor=10)
            places.append((left + side_x / 2 - width / 2, top + side_y / 2 - height / 2))
            shifts.append((moved[1], moved[0]))
    return np.array(places).reshape(-1, 2), np.array(shifts).reshape(-1, 2)


def _common_drift(places: NDArray, shifts: NDArray, side: int) -> tuple[Drift, float]:
    """The shift and zoom that most blocks agree on, and the share of those that do.

    shift_n = shift + (scale - 1) place_n, by least squares over blocks that agree, beginning from the median.
    """
    few = np.hypot(*shifts.T) <= MAX_DRIFT * side
    shift, zoom = np.median(shifts[few] if few.any() else shifts, axis=0), 0.0
    agrees = few & (np.hypot(*(shifts - shift).T) <= AGREEMENT + 0.02 * np.hypot(*places.T))
    for _ in range(5):
        if agrees.sum() < 3:
            break
        centred = places[agrees] - places[agrees].mean(0)
        zoom = float((centred * shifts[agrees]).sum() / max((centred**2).sum(), 1e-9))
        shift = (shifts[agrees] - zoom * places[agrees]).mean(0)
        agrees = few & (np.hypot(*(shifts - shift - zoom * places).T) <= AGREEMENT)
    return Drift((float(shift[0]), float(shift[1])), 1 + zoom), float(agrees.mean())


def _edges(picture: Image.Image) -> NDArray:
    """Where brightness changes, (h, w): edits of colour leave it alone for the most part."""
    grey = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    down, right = np.gradient(grey)
    return np.hypot(down, right)


def _difference(source: Image.Image, frame: Image.Image) -> float:
    """Of the edges of two pictures, each of unit energy: 0 where they are the same, 2 where they have nothing in
    common. A margin that an undone drift may have filled is left out."""
    width, height = source.size
    margin = slice(height // 16, -(height // 16)), slice(width // 16, -(width // 16))
    first, second = (_edges(picture)[margin] for picture in (source, frame))
    first, second = (edges / max(float(np.linalg.norm(edges)), 1e-9) for edges in (first, second))
    return float(((first - second) ** 2).sum())
