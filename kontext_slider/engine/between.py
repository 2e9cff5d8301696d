"""What lies between finished frames, where it can be told from them.

What a slider changes is its offsets. They are known at every strength for the price of a small MLP, and what the
transformer makes of them is smoother in them than in the strength: an MLP of ReLUs has kinks, and a frame beyond one is
no polynomial of the frames before it. So something between is the finished ones' mixture in whose proportions their
offsets, and the strengths, make this strength's (the weights of locally linear embedding: Roweis and Saul, 2000); where
that leaves a choice, it is the one that makes the strength's powers too. Of a slider without kinks that is the
polynomial through the finished frames. What the mixture misses is estimated by leaving one out, and where that is too
much, nobody guesses and the frame is rendered.

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

from ..projector import ModulationOffsets

SIDE = 3  # neighbours on a side, more where the other has fewer
APART = 0.04  # of strength: of frames nearer to each other than this, one is enough, and two would only add their noise
POWERS = 0.03  # what the strength's powers count beside the offsets and itself
RIDGE = 1e-9  # of the mean square of the ways to the neighbours: keeps weights small where several mixtures would do
TILE = 16  # pixels, the side of the parts of a picture that are looked at one by one

OffsetsAt = Callable[[Sequence[float]], ModulationOffsets]  # strengths (B,) -> scale and shift, (B, D) each


def neighbours(finished: Sequence[float], strength: float, reach: float, least: int) -> list[float]:
    """Finished strengths on either side to tell another one from, the nearest first; none if a side is empty, the gap
    is wider than `reach`, or there are fewer than `least` (3 or more: one is left out to estimate an error). Every
    slider has a kink at 1, from which on it goes beyond the edit: no mixture reaches over it."""
    nearest: list[float] = []
    this_side = (other for other in finished if other == 1 or (other < 1) == (strength < 1))
    for other in sorted(this_side, key=lambda other: abs(other - strength)):
        if all(abs(other - taken) > APART for taken in nearest):
            nearest.append(other)
    below, above = [s for s in nearest if s < strength], [s for s in nearest if s > strength]
    if not below or not above or above[0] - below[0] > reach + 1e-9:
        return []
    chosen = [s for s in nearest if s in below[:SIDE] or s in above[:SIDE]]
    chosen += [s for s in nearest if s not in chosen][: max(0, least - len(chosen))]
    return chosen if len(chosen) >= least else []


def mixtures(offsets_at: OffsetsAt, nodes: Sequence[float], strength: float) -> Tensor:
    """The weights of K nodes in what is at `strength`, and without the last node, (2, K) float32; each sums to 1."""
    strengths = torch.tensor([strength, *nodes], dtype=torch.float64)
    offsets = torch.cat(list(offsets_at([strength, *nodes])), dim=-1).flatten(1).double().cpu()  # (1 + K, 2 D)
    powers = [_ways(strengths[:, None] ** power) for power in range(1, len(nodes))]
    ways = torch.cat([_ways(offsets), *powers[:1], *(POWERS * ways for ways in powers[1:])], dim=1)  # (K, 2 D + K - 1)
    products = ways @ ways.T
    products.diagonal().add_(RIDGE * products.diagonal().mean())
    weights = torch.zeros(2, len(nodes), dtype=torch.float64)
    for row, some in zip(weights, (len(nodes), len(nodes) - 1), strict=True):
        row[:some] = torch.linalg.solve(products[:some, :some], torch.ones(some, dtype=torch.float64))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _ways(places: Tensor) -> Tensor:
    """From the first place to the others, the farthest of them 1 away: (1 + K, D) -> (K, D)."""
    ways = places[1:] - places[:1]
    return ways / ways.norm(dim=1).max().clamp(min=1e-12)


def interpolate(
    frames: Mapping[float, Image.Image], strength: float, decibels: float, offsets_at: OffsetsAt
) -> Image.Image | None:
    """The frame at `strength` mixed of `frames` (strength -> frame, nearest first, 3 or more); None where some part of
    it is estimated to be further off than `decibels` of PSNR."""
    pictures = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames.values()]))  # (K, H, W, 3), 0 to 255
    weights = mixtures(offsets_at, list(frames), strength)
    best, other = (weights @ pictures.flatten(1).float()).unflatten(1, pictures.shape[1:])
    if worst_psnr(best / 255, other / 255) < decibels:
        return None
    return Image.fromarray(best.round().clamp(0, 255).byte().numpy())


def worst_psnr(best: Tensor, other: Tensor) -> float:
    """PSNR in dB between two guesses where they differ most, in a tile of TILE pixels, at most 99: a small object that
    is wrong hardly shows in the mean of a picture."""
    squares = (best - other).square().flatten(1)[None]  # (1, H, W * 3)
    worst = avg_pool2d(squares, (TILE, TILE * best.shape[2]), ceil_mode=True).max()
    return min(99.0, -10 * math.log10(float(worst) + 1e-12))
