"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network embeds each picture once. Here are those without weights; see
also `networks` and `kontext_slider.features`.

Legend: n pictures (H, W, 3) float32 in [0, 1] of one size; matrices (n, n), symmetric, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from skimage.metrics import structural_similarity
from skimage.transform import downscale_local_mean

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import Picture

Matrix = NDArray[np.float64]
Distance = Callable[[Sequence[Picture]], Matrix]
Rulers = Callable[[Sequence[Picture]], dict[str, Matrix]]  # several distances of the same pictures, by name

WINDOW = 11  # pixels of SSIM's Gaussian


def rms(pictures: Sequence[Picture]) -> Matrix:
    """Root mean square difference of pixels. A cross-fade is a straight line in it."""
    flat = np.stack([picture.ravel() for picture in pictures]).astype(np.float64)
    return squareform(pdist(flat)) / np.sqrt(flat.shape[1])


def ssim(pictures: Sequence[Picture]) -> Matrix:
    """sqrt(1 - SSIM) of the brightness, mean over three scales; Wang et al. 2004, 11 x 11 Gaussian of 1.5 pixels.

    The square root makes it nearly a metric (Brunet, Vrscay, Wang 2012), as the triangle deficit needs. A scale that
    is smaller than the Gaussian is left out. Raises InvalidInput for pictures that are."""
    grey = np.stack([picture @ np.array([0.299, 0.587, 0.114], dtype=np.float32) for picture in pictures])  # (n, H, W)
    height, width = grey.shape[1:]
    factors = [k for k in (1, 2, 4) if min(height, width) // k >= WINDOW]
    if not factors:
        raise InvalidInput(f"SSIM needs pictures of at least {WINDOW} pixels a side, not {min(height, width)}.")
    whole = [grey[:, : height // k * k, : width // k * k].astype(np.float64) for k in factors]
    scales = [downscale_local_mean(pixels, (1, k, k)) for pixels, k in zip(whole, factors, strict=True)]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "win_size": WINDOW}

    def between(i: int, j: int) -> float:
        return float(np.mean([max(0.0, 1 - structural_similarity(s[i], s[j], **how)) for s in scales]) ** 0.5)

    return squareform([between(i, j) for i, j in combinations(range(len(grey)), 2)])


def psnr(picture: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1]; 99 where they are equal."""
    error = float(np.mean((np.clip(picture, 0, 1) - truth) ** 2))
    return min(99.0, -10 * float(np.log10(max(error, 1e-12))))
