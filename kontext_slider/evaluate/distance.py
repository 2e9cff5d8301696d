"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network can embed each picture once.

Legend: n pictures (H, W, 3) float32 in [0, 1] of one size; matrices (n, n), symmetric, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from kontext_slider.errors import InvalidInput
from kontext_slider.train.pocket.world import Picture

Distance = Callable[[Sequence[Picture]], NDArray[np.float64]]


def rms(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """Root mean square difference of pixels. Cross-fades are straight lines in it: it cannot tell them from edits."""
    flat = np.stack([picture.ravel() for picture in pictures]).astype(np.float64)
    return _pairwise(len(flat), lambda i, j: float(np.sqrt(np.mean((flat[i] - flat[j]) ** 2))))


def ssim(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """sqrt(1 - SSIM) of the brightness over three scales; Wang et al. 2004, 11 x 11 Gaussian of 1.5 pixels.

    The square root makes it nearly a metric (Brunet, Vrscay, Wang 2012), as the triangle deficit needs."""
    grey = torch.stack([_brightness(picture) for picture in pictures])  # (n, 1, H, W)
    scales = [grey, avg_pool2d(grey, 2), avg_pool2d(grey, 4)]
    return _pairwise(
        len(grey), lambda i, j: float(np.mean([max(0.0, 1 - _ssim(s[i : i + 1], s[j : j + 1])) for s in scales]) ** 0.5)
    )


DISTANCES: dict[str, Distance] = {"rms": rms, "ssim": ssim}


def find_distance(name: str) -> Distance:
    """The distance of that name. InvalidInput for a name that is none."""
    if name not in DISTANCES:
        raise InvalidInput(f"There is no distance '{name}'. Choose one of: {', '.join(DISTANCES)}.")
    return DISTANCES[name]


def _pairwise(count: int, between: Callable[[int, int], float]) -> NDArray[np.float64]:
    matrix = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = between(i, j)
    return matrix


def _brightness(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32)))[None]


def _ssim(a: Tensor, b: Tensor) -> float:
    """Mean SSIM of (1, 1, H, W) in [0, 1]."""
    line = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2)
    window = (line[:, None] * line[None] / line.sum() ** 2)[None, None]
    mean_a, mean_b, aa, bb, ab = (conv2d(x, window) for x in (a, b, a * a, b * b, a * b))
    var_a, var_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(similarity.mean())
