"""Image distances: pictures to the matrix of distances between any two of them.

One signature, `(pictures) -> matrix`, so that a network embeds each picture once. What needs a package or weights that
are not there says so in a sentence, at its first call and not at import.

Legend: n pictures (H, W, 3) float32 in [0, 1] of one size; matrices (n, n), symmetric, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, normalize

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


def clip(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """1 - cosine of CLIP ViT-B/32 image embeddings (transformers; downloads the weights once)."""
    return _cosine(_embed("openai/clip-vit-base-patch32", pictures))


def dino(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """1 - cosine of DINOv2-small class tokens (transformers; downloads the weights once)."""
    return _cosine(_embed("facebook/dinov2-small", pictures))


def dreamsim(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """DreamSim's default ensemble, the paper's choice (package `dreamsim`)."""
    model, preprocess = _dreamsim()
    with torch.no_grad():
        embeddings = torch.cat([model.embed(preprocess(_pil(picture))) for picture in pictures])
    return _cosine(embeddings)


def lpips(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """LPIPS with VGG (package `lpips`)."""
    model = _lpips()
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) * 2 - 1
    with torch.no_grad():
        return _pairwise(len(batch), lambda i, j: float(model(batch[i : i + 1], batch[j : j + 1])))


DISTANCES: dict[str, Distance] = {
    "rms": rms,
    "ssim": ssim,
    "clip": clip,
    "dino": dino,
    "dreamsim": dreamsim,
    "lpips": lpips,
}


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


def _cosine(embeddings: Tensor) -> NDArray[np.float64]:
    unit = normalize(embeddings.double(), dim=-1)
    matrix = (1 - unit @ unit.T).clamp_min(0)
    return matrix.fill_diagonal_(0).numpy()


def _embed(name: str, pictures: Sequence[Picture]) -> Tensor:
    """(n, width) embeddings of a vision model of the hub."""
    model, processor = _vision_model(name)
    inputs = processor(images=[_pil(picture) for picture in pictures], return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).pooler_output


@cache
def _vision_model(name: str):
    from transformers import AutoImageProcessor, AutoModel

    try:
        model = AutoModel.from_pretrained(name)
        return getattr(model, "vision_model", model).eval(), AutoImageProcessor.from_pretrained(name)
    except OSError as error:
        raise InvalidInput(f"The weights of {name} are not here and could not be downloaded: {error}") from error


@cache
def _dreamsim():
    try:
        from dreamsim import dreamsim as load
    except ImportError as error:
        raise InvalidInput("DreamSim is not installed: `pip install dreamsim`, or choose another distance.") from error
    return load(pretrained=True, device="cpu")


@cache
def _lpips():
    try:
        import lpips as package
    except ImportError as error:
        raise InvalidInput("LPIPS is not installed: `pip install lpips`, or choose another distance.") from error
    return package.LPIPS(net="vgg").eval()


def _pil(picture: Picture):
    from PIL import Image

    return Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
