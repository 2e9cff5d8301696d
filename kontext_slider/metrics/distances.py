"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network embeds each picture once. `rms` and `ssim` need nothing;
`networks` has those of other people's networks, `kontext_slider.features` those of the base model's own blocks.

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
from kontext_slider.metrics.picture import Picture

Matrix = NDArray[np.float64]
Distance = Callable[[Sequence[Picture]], Matrix]

CLIP = "openai/clip-vit-base-patch32"  # the paper's for CLIP-dir
DINO = "facebook/dinov2-base"


def rms(pictures: Sequence[Picture]) -> Matrix:
    """Root mean square difference of pixels. Cross-fades are straight lines in it: it cannot tell them from edits."""
    flat = np.stack([picture.ravel() for picture in pictures]).astype(np.float64)
    return pairwise(len(flat), lambda i, j: float(np.sqrt(np.mean((flat[i] - flat[j]) ** 2))))


def ssim(pictures: Sequence[Picture]) -> Matrix:
    """sqrt(1 - SSIM) of the brightness over three scales; Wang et al. 2004, 11 x 11 Gaussian of 1.5 pixels.

    The square root makes it nearly a metric (Brunet, Vrscay, Wang 2012), as the triangle deficit needs. A scale that
    is smaller than the Gaussian is left out. Raises InvalidInput for pictures that are."""
    grey = torch.stack([_brightness(picture) for picture in pictures])  # (n, 1, H, W)
    scales = [scale for scale in (grey, avg_pool2d(grey, 2), avg_pool2d(grey, 4)) if min(scale.shape[2:]) >= 11]
    if not scales:
        raise InvalidInput(f"SSIM needs pictures of at least 11 pixels a side, not {min(grey.shape[2:])}.")
    return pairwise(
        len(grey), lambda i, j: float(np.mean([max(0.0, 1 - _ssim(s[i : i + 1], s[j : j + 1])) for s in scales]) ** 0.5)
    )


def psnr(picture: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1]; 99 where they are equal."""
    error = float(np.mean((np.clip(picture, 0, 1) - truth) ** 2))
    return min(99.0, -10 * float(np.log10(max(error, 1e-12))))


def pairwise(count: int, between: Callable[[int, int], float]) -> Matrix:
    """The matrix of a symmetric function of two pictures' numbers."""
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
