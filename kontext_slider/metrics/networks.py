"""Distances and embedders of other people's networks, each behind a small protocol; nothing is imported before use.

CLIP and DINOv2 come with transformers; pictures are scaled and normalised here, since transformers' own image
processors ask for torchvision. LPIPS and DreamSim are packages of their own, called as their authors document it.

Legend: n pictures (H, W, 3) in [0, 1], F values of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics.distances import CLIP, DINO, Distance, Matrix
from kontext_slider.metrics.picture import Picture, to_image


class ImageEmbedder(Protocol):
    """A network that turns pictures into directions."""

    def embed_images(self, pictures: Sequence[Picture]) -> Tensor:
        """n pictures -> (n, F), of unit length, on the CPU."""


class TextImageEmbedder(ImageEmbedder, Protocol):
    """One that has sentences in the same space."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """n sentences -> (n, F), of unit length, on the CPU."""


class Lens(NamedTuple):
    """How a network wants its pictures: shorter side scaled to `side`, the middle `crop` pixels, normalised."""

    side: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CLIP_LENS = Lens(224, 224, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
DINO_LENS = Lens(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ClipEmbedder:
    """A CLIPModel and its tokenizer, from a folder or hub id. Raises InvalidInput where there is none."""

    def __init__(self, source: str = CLIP, device: str | torch.device = "cpu"):
        from transformers import AutoTokenizer, CLIPModel

        self.model = _loaded(CLIPModel.from_pretrained, source, "--clip").to(device).eval()
        self.tokenizer = _loaded(AutoTokenizer.from_pretrained, source, "--clip")
        side = self.model.config.vision_config.image_size
        self.lens = CLIP_LENS._replace(side=side, crop=side)

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Picture]) -> Tensor:
        pixels = through_lens(pictures, self.lens).to(self.model.device)
        return _unit(self.model.get_image_features(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        return _unit(self.model.get_text_features(**tokens).pooler_output)


class DinoEmbedder:
    """The class token of a Dinov2Model, from a folder or hub id. Raises InvalidInput where there is none."""

    def __init__(self, source: str = DINO, device: str | torch.device = "cpu"):
        from transformers import AutoModel

        self.model = _loaded(AutoModel.from_pretrained, source, "--dino").to(device).eval()

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Picture]) -> Tensor:
        pixels = through_lens(pictures, DINO_LENS).to(self.model.device)
        return _unit(self.model(pixel_values=pixels).last_hidden_state[:, 0])


def cosine_distance(embedder: ImageEmbedder) -> Distance:
    """1 - cosine of two pictures' embeddings, in [0, 2]."""

    def distance(pictures: Sequence[Picture]) -> Matrix:
        embeddings = embedder.embed_images(pictures).double()
        return _hollow((1 - embeddings @ embeddings.T).clamp_min(0))

    return distance


def dreamsim_distance(device: str | torch.device = "cpu") -> Distance:
    """DreamSim's default ensemble (Fu et al. 2023), the paper's choice: 1 - cosine of its embeddings."""
    dreamsim = _package("dreamsim").dreamsim
    cache = str(Path(torch.hub.get_dir()) / "dreamsim")
    model, preprocess = dreamsim(pretrained=True, device=str(device), cache_dir=cache)

    class Embedder:
        @torch.no_grad()
        def embed_images(self, pictures: Sequence[Picture]) -> Tensor:
            pixels = torch.cat([preprocess(to_image(picture)) for picture in pictures])  # (n, 3, 224, 224)
            return _unit(model.embed(pixels.to(device)))

    return cosine_distance(Embedder())


def lpips_distance(device: str | torch.device = "cpu") -> Distance:
    """LPIPS with VGG (Zhang et al. 2018), pictures in [-1, 1] as it documents. It has no call that embeds one picture:
    all pairs go in together."""
    model = _package("lpips").LPIPS(net="vgg", verbose=False).to(device).eval()

    @torch.no_grad()
    def distance(pictures: Sequence[Picture]) -> Matrix:
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device) * 2 - 1
        pairs = list(combinations(range(len(pictures)), 2))
        left, right = zip(*pairs, strict=True)
        matrix = torch.zeros(len(pictures), len(pictures), dtype=torch.float64)
        matrix[left, right] = model(pixels[list(left)], pixels[list(right)]).flatten().double().cpu()
        return _hollow(matrix + matrix.T)

    return distance


def through_lens(pictures: Sequence[Picture], lens: Lens) -> Tensor:
    """(n, 3, crop, crop), bicubic and normalised, as the networks' own processors do it."""
    return torch.stack([_scaled(to_image(picture), lens) for picture in pictures])


def _scaled(image: Image.Image, lens: Lens) -> Tensor:
    ratio = lens.side / min(image.size)
    width, height = (max(lens.crop, round(side * ratio)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - lens.crop) // 2, (height - lens.crop) // 2
    pixels = np.asarray(image.crop((left, top, left + lens.crop, top + lens.crop)), dtype=np.float32) / 255
    mean, std = np.array(lens.mean, dtype=np.float32), np.array(lens.std, dtype=np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)


def _unit(embeddings: Tensor) -> Tensor:
    return normalize(embeddings.float().cpu(), dim=-1)


def _hollow(matrix: Tensor) -> Matrix:
    return matrix.fill_diagonal_(0).numpy()


def _package(name: str) -> Any:
    """A package that is not among ours. Raises InvalidInput with the command that installs it."""
    try:
        return __import__(name)
    except ImportError as error:
        missing = error.name or name
        raise InvalidInput(
            f"The distance '{name}' needs the package {missing}, which is not installed. Install it with "
            f"'pip install {name} torchvision', or choose another --distance."
        ) from error


def _loaded(load: Callable[[str], Any], source: str, flag: str) -> Any:
    try:
        return load(source)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"The network {source!r} cannot be read here. Download it elsewhere and give its folder with {flag}."
        ) from error
