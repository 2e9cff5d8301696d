"""Distances and embedders of other people's networks; none is imported before use.

CLIP comes with transformers. LPIPS and DreamSim are packages of their own, called as their authors document it.

Legend: n pictures (H, W, 3) in [0, 1], F values of an embedding; a sweep is y_0, the source, and y_1..y_N, frames at
strengths i/N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import Picture, to_image
from kontext_slider.metrics.distances import Distance, Matrix

CLIP = "openai/clip-vit-base-patch32"  # the paper's for CLIP-dir
PACKAGES = {"dreamsim": "dreamsim torchvision", "lpips": "lpips torchvision"}  # distance -> what to install for it

Embed = Callable[[Sequence[Picture]], Tensor]  # n pictures -> (n, F), of unit length, on the CPU


class ClipEmbedder:
    """A CLIPModel and its tokenizer, from a folder or hub id: pictures and sentences in one space.

    Raises InvalidInput where there is none."""

    def __init__(self, source: str = CLIP, device: str | torch.device = "cpu"):
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        try:
            self.model = CLIPModel.from_pretrained(source).to(device).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"The network {source!r} cannot be read here. Download it elsewhere and give its folder with --clip."
            ) from error
        side = self.model.config.vision_config.image_size
        self.processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Picture]) -> Tensor:
        """n pictures -> (n, F), of unit length, on the CPU."""
        pixels = self.processor([to_image(picture) for picture in pictures], return_tensors="pt").pixel_values
        return _unit(self.model.get_image_features(pixel_values=pixels.to(self.model.device)).pooler_output)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> (n, F), of unit length, on the CPU."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        return _unit(self.model.get_text_features(**tokens).pooler_output)


def clip_direction(embedder: ClipEmbedder, sweep: Sequence[Picture], captions: tuple[str, str]) -> float:
    """CLIP-dir of y_0..y_N: mean over i >= 1 of c_i / (i/N), c_i = cos(E(y_i) - E(y_0), T(target) - T(source)).

    The division is the paper's: a change that points the right way counts for more the earlier it comes. So the
    figure is no cosine; for cosines that are all 1 it is N (1 + 1/2 + ... + 1/N) / N. 0 for frames that do not move.

    Args:
        captions: of the source and of the target, different ones.
    """
    images, texts = embedder.embed_images(sweep), embedder.embed_texts(captions)
    cosines = cosine_similarity(images[1:] - images[0], texts[1:] - texts[0], eps=1e-8).double().numpy()  # (N,)
    strengths = np.arange(1, len(sweep)) / (len(sweep) - 1)
    return float(np.mean(cosines / strengths))


def identity_curve(embed: Embed, sweep: Sequence[Picture]) -> NDArray[np.float64]:
    """Cosine of E(y_i) and E(y_0) for i = 0..N, (N + 1,); 1 at the source."""
    images = embed(sweep).double()
    return (images @ images[0]).numpy()


def cosine_distance(embed: Embed) -> Distance:
    """1 - cosine of two pictures' embeddings, in [0, 2]."""

    def distance(pictures: Sequence[Picture]) -> Matrix:
        embeddings = embed(pictures).double()
        return (1 - embeddings @ embeddings.T).clamp_min(0).fill_diagonal_(0).numpy()

    return distance


def dreamsim_distance(device: str | torch.device = "cpu") -> Distance:
    """DreamSim's default ensemble (Fu et al. 2023), the paper's choice: 1 - cosine of its embeddings."""
    package, cache = import_package("dreamsim", PACKAGES["dreamsim"]), Path(torch.hub.get_dir()) / "dreamsim"
    with _weights_of("dreamsim", cache):
        model, preprocessing = package.dreamsim(pretrained=True, device=str(device), cache_dir=str(cache))

    @torch.no_grad()
    def embed(pictures: Sequence[Picture]) -> Tensor:
        pixels = torch.cat([preprocessing(to_image(picture)) for picture in pictures])  # (n, 3, 224, 224)
        return _unit(model.embed(pixels.to(device)))

    return cosine_distance(embed)


def lpips_distance(device: str | torch.device = "cpu", net: str = "vgg") -> Distance:
    """LPIPS (Zhang et al. 2018) with VGG or another of its networks ("alex"), pictures in [-1, 1]. It has no call that
    embeds one picture: all pairs go in together."""
    package = import_package("lpips", PACKAGES["lpips"])
    with _weights_of("lpips", Path(torch.hub.get_dir()) / "checkpoints"):
        model = package.LPIPS(net=net, verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(pictures: Sequence[Picture]) -> Matrix:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device) * 2 - 1
        left, right = zip(*combinations(range(len(pictures)), 2), strict=True)
        matrix = torch.zeros(len(pictures), len(pictures), dtype=torch.float64)
        matrix[left, right] = model(pixels[list(left)], pixels[list(right)]).flatten().double().cpu()
        return (matrix + matrix.T).numpy()

    return distance


def _unit(embeddings: Tensor) -> Tensor:
    return normalize(embeddings.float().cpu(), dim=-1)


def check_packages(distances: Sequence[str]) -> None:
    """Raise InvalidInput where the package of a distance is not installed, before a model is loaded for it."""
    for name in PACKAGES.keys() & set(distances):
        import_package(name, PACKAGES[name])


@contextmanager
def _weights_of(name: str, cache: Path) -> Iterator[None]:
    """Weights that cannot be downloaded or read in the block become a sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InvalidInput(
            f"The weights of {name} cannot be fetched or read here ({error}). Use {name} once where there is internet, "
            f"and copy its files to {cache}, or choose another --distance."
        ) from error


def import_package(name: str, install: str) -> Any:
    """A package that is not among ours. Raises InvalidInput with what to install: there is no substitute in silence,
    as figures of two rulers cannot be compared."""
    try:
        return __import__(name)
    except ImportError as error:
        raise InvalidInput(
            f"This distance needs the package {error.name or name}, which is not installed. Install it with "
            f"'pip install {install}', or choose another --distance."
        ) from error
