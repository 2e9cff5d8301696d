"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network embeds each picture once. `rms` and `ssim` need nothing;
`evaluate.features` looks through the base model's own blocks, `evaluate.networks` through other people's networks.

Legend: n pictures (H, W, 3) float32 in [0, 1] of one size; matrices (n, n), symmetric, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from kontext_slider.errors import InvalidInput
from kontext_slider.train.pocket.paint import Picture

if TYPE_CHECKING:
    from kontext_slider.pipeline import KontextSliderPipeline

Matrix = NDArray[np.float64]
Distance = Callable[[Sequence[Picture]], Matrix]

DISTANCES = ("dreamsim", "lpips", "clip", "dino", "pocket", "ssim", "rms")
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


def default_distance() -> str:
    """The paper's choice where it is installed, else what comes with every model."""
    return "dreamsim" if find_spec("dreamsim") else "pocket"


def find_distance(name: str, pipe: KontextSliderPipeline | None = None, clip: str = CLIP, dino: str = DINO) -> Distance:
    """The distance of that name, ready to use on the pipeline's device.

    Args:
        name: one of DISTANCES; "pocket" is `features.block_distance` of a pipeline's base model.
        pipe: the model under test. None: the pocket model in the box, on the CPU.
        clip, dino: a folder or hub id, for the distances of these names.

    Raises InvalidInput for a name that is none, a package that is not installed, weights that cannot be read.
    """
    from kontext_slider.evaluate import features, networks
    from kontext_slider.presets import load_pipeline

    device = pipe._execution_device if pipe else torch.device("cpu")
    makers: dict[str, Callable[[], Distance]] = {
        "dreamsim": lambda: networks.dreamsim_distance(device),
        "lpips": lambda: networks.lpips_distance(device),
        "clip": lambda: networks.cosine_distance(networks.ClipEmbedder(clip, device)),
        "dino": lambda: networks.cosine_distance(networks.DinoEmbedder(dino, device)),
        "pocket": lambda: features.block_distance(pipe or load_pipeline("pocket", device=device)),
        "ssim": lambda: ssim,
        "rms": lambda: rms,
    }
    if name not in makers:
        raise InvalidInput(f"There is no distance '{name}'. Choose one of: {', '.join(DISTANCES)}.")
    return makers[name]()


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
