"""What several morphers share: their signature, the check of their pictures, and great circles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline

Morpher = Callable[[KontextSliderPipeline, Image, Image, str, Sequence[float], int], list[Image]]
TINY = 1e-4


def check_pair(source: Image, edited: Image) -> None:
    """InvalidInput for pictures of two sizes."""
    if source.size != edited.size:
        raise InvalidInput(
            f"The source is {source.size} and the edit {edited.size} (width, height). Resize one to the other's size."
        )


def slerp(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """From a to b on great circles of their last axis, by strengths that broadcast; lines where these are parallel."""
    cosine = torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1)[..., None]
    angle = torch.arccos(cosine.clamp(-1, 1))
    sine, s = torch.sin(angle), s.float()
    on_circle = (torch.sin((1 - s) * angle) * a + torch.sin(s * angle) * b) / sine.clamp_min(TINY)
    return torch.where(sine < TINY, torch.lerp(a.float(), b.float(), s), on_circle).to(a.dtype)


def slerp_whole(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Whole latents (1, ...) on one great circle, by strengths (J,) -> (J, ...)."""
    flat = slerp(a.flatten(1), b.flatten(1), s[:, None])
    return flat.unflatten(1, a.shape[1:])
