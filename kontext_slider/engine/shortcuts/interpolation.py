"""Frame interpolation: a frame from the finished frames beside it, where its estimated error is small.

A slider changes the offsets. They are known at every strength for the price of a small MLP, and the frames are smoother
in them than in the strength, because an MLP of ReLUs is piecewise linear. So a frame is a weighted mean of finished
frames, with the weights by which their offsets, and their strengths, give this strength's (the weights of locally
linear embedding: Roweis and Saul, 2000). Where that leaves a choice, the powers of the strength decide; for a slider
whose offsets are polynomial in s that is the polynomial through the finished frames. The error is estimated by leaving
one frame out. Where it is too large, nothing is interpolated and the frame is rendered.

Legend: K finished frames, D width of the offsets, pictures (H, W, 3) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ...projector import ModulationOffsets

SIDE = 3  # neighbours on a side, more where the other has fewer
APART = 0.04  # of strength: of frames nearer to each other than this, one is enough; two would only add their noise
POWERS = 0.03  # the weight of the strength's powers beside the offsets and the strength itself
RIDGE = 1e-9  # of the mean square distance to the neighbours: keeps weights small where several solutions would do
TILE = 16  # pixels, the side of the tiles whose error is estimated one by one

OffsetsAt = Callable[[Sequence[float]], ModulationOffsets]  # strengths (B,) -> scale and shift, (B, D) each


def neighbours(finished: Sequence[float], strength: float, max_gap: float, min_frames: int) -> list[float]:
    """Finished strengths on either side to interpolate another one from, the nearest first; none if a side is empty,
    the gap is wider than `max_gap`, or there are fewer than `min_frames` (3 or more: one is left out to estimate the
    error). The offsets of every slider bend at 1, where extrapolation begins: nothing is interpolated across it."""
    nearest: list[float] = []
    this_side = (other for other in finished if other == 1 or (other < 1) == (strength < 1))
    for other in sorted(this_side, key=lambda other: abs(other - strength)):
        if all(abs(other - taken) > APART for taken in nearest):
            nearest.append(other)
    below, above = [s for s in nearest if s < strength], [s for s in nearest if s > strength]
    if not below or not above or above[0] - below[0] > max_gap + 1e-9:
        return []
    chosen = [s for s in nearest if s in below[:SIDE] or s in above[:SIDE]]
    chosen += [s for s in nearest if s not in chosen][: max(0, min_frames - len(chosen))]
    return chosen if len(chosen) >= min_frames else []


def mixtures(offsets_at: OffsetsAt, nodes: Sequence[float], strength: float) -> Tensor:
    """The weights of K finished frames in the one at `strength`, and the weights without the last of them, (2, K)
    float32; each row sums to 1."""
    strengths = torch.tensor([strength, *nodes], dtype=torch.float64)
    offsets = torch.cat(list(offsets_at([strength, *nodes])), dim=-1).flatten(1).double().cpu()  # (1 + K, 2 D)
    powers = [_from_first(strengths[:, None] ** power) for power in range(1, len(nodes))]
    differences = torch.cat(
        [_from_first(offsets), *powers[:1], *(POWERS * power for power in powers[1:])], dim=1
    )  # (K, 2 D + K - 1)
    products = differences @ differences.T
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    weights = torch.zeros(2, len(nodes), dtype=torch.float64)
    for row, some in zip(weights, (len(nodes), len(nodes) - 1), strict=True):
        row[:some] = torch.linalg.solve(products[:some, :some], torch.ones(some, dtype=torch.float64))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _from_first(places: Tensor) -> Tensor:
    """From the first place to the others, the farthest of them 1 away: (1 + K, D) -> (K, D)."""
    differences = places[1:] - places[:1]
    return differences / differences.norm(dim=1).max().clamp(min=1e-12)


def interpolate(
    frames: Mapping[float, Image.Image], strength: float, decibels: float, offsets_at: OffsetsAt
) -> Image.Image | None:
    """The frame at `strength` from `frames` (strength -> frame, nearest first, 3 or more); None where the estimated
    error of some tile is larger than `decibels` of PSNR."""
    pictures = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames.values()]))  # (K, H, W, 3), 0 to 255
    weights = mixtures(offsets_at, list(frames), strength)
    best, other = (weights @ pictures.flatten(1).float()).unflatten(1, pictures.shape[1:])
    if worst_psnr(best / 255, other / 255) < decibels:
        return None
    return Image.fromarray(best.round().clamp(0, 255).byte().numpy())


def worst_psnr(best: Tensor, other: Tensor) -> float:
    """PSNR in dB of the tile of TILE pixels where two estimates differ most, at most 99: the error of a small object
    hardly shows in the mean of a picture."""
    squares = (best - other).square().flatten(1)[None]  # (1, H, W * 3)
    worst = avg_pool2d(squares, (TILE, TILE * best.shape[2]), ceil_mode=True).max()
    return min(99.0, -10 * math.log10(float(worst) + 1e-12))
