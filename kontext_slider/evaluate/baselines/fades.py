"""The floor that every method must beat: source and full edit, mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from kontext_slider.base_edit import BaseEdit, edited_picture
from kontext_slider.evaluate.baselines.method import ByScale, LatentsAt
from kontext_slider.metrics import Picture, to_picture
from kontext_slider.pipeline import KontextSliderPipeline


def pixel_cross_fade(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """Source and full edit, mixed as pictures."""
    source, full = to_picture(image), edited_picture(pipe, image, instruction, seed)
    return [(1 - s) * source + s * full for s in strengths]


@dataclass(frozen=True, kw_only=True)
class LatentCrossFade(ByScale):
    """Source and full edit, mixed as latents."""

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        full = edit.sample(edit.velocity_under(edit.text))
        return lambda share: torch.lerp(edit.source.latents, full, share)
