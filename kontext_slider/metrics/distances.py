"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network embeds each picture once. `rms` and `ssim` need no weights;
`networks` has those of other people's networks, `kontext_slider.features` those of the base model's own blocks.

Legend: n pictures (H, W, 3) float32 in [0, 1] of one size; matrices (n, n), symmetric, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import Picture

Matrix = NDArray[np.float64]
Distance = Callable[[Sequence[Picture]], Matrix]

WINDOW = 11  # pixels of SSIM's Gaussian


def rms(pictures: Sequence[Picture]) -> Matrix:
    """Root mean square difference of pixels. A cross-fade is a straight line in it."""
    flat = np.stack([picture.ravel() for picture in pictures]).astype(np.float64)
    return pairwise(len(flat), lambda i, j: float(np.sqrt(np.mean((flat[i] - flat[j]) ** 2))))


def ssim(pictures: Sequence[Picture]) -> Matrix:
    """sqrt(1 - SSIM) of the brightness, mean over three scales; Wang et al. 2004, 11 x 11 Gaussian of 1.5 pixels.

    The square root makes it nearly a metric (Brunet, Vrscay, Wang 2012), as the triangle deficit needs. A scale that
    is smaller than the Gaussian is left out. Raises InvalidInput for pictures that are."""
    grey = np.stack([picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32) for picture in pictures])  # (n, H, W)
    scales = [scale for scale in (_reduced(grey, factor) for factor in (1, 2, 4)) if min(scale.shape[1:]) >= WINDOW]
    if not scales:
        raise InvalidInput(f"SSIM needs pictures of at least {WINDOW} pixels a side, not {min(grey.shape[1:])}.")

    def between(i: int, j: int) -> float:
        return float(np.mean([max(0.0, 1 - _similarity(scale[i], scale[j])) for scale in scales]) ** 0.5)

    return pairwise(len(grey), between)


def _similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, win_size=WINDOW
    )


def _reduced(grey: NDArray[np.float32], factor: int) -> NDArray[np.float64]:
    """Means of squares of `factor` pixels, (n, H // factor, W // factor)."""
    count, height, width = grey.shape
    squares = grey[:, : height // factor * factor, : width // factor * factor].astype(np.float64)
    return squares.reshape(count, height // factor, factor, width // factor, factor).mean((2, 4))


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
