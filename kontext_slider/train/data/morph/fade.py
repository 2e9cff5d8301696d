"""Cross-fades: the plainest morphs, and the ones that every other has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from kontext_slider.metrics import to_image, to_picture
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.morph.flow_model import FlowModel, check_pair


def pixel_fade(
    pipe: KontextSliderPipeline,
    source: Image.Image,
    edited: Image.Image,
    instruction: str,
    strengths: Sequence[float],
    seed: int,
) -> list[Image.Image]:
    """Mixed as pictures; both ends are the pictures themselves."""
    check_pair(source, edited)
    first, last = to_picture(source), to_picture(edited)
    return [to_image(first + (last - first) * s) for s in strengths]


def latent_fade(
    pipe: KontextSliderPipeline,
    source: Image.Image,
    edited: Image.Image,
    instruction: str,
    strengths: Sequence[float],
    seed: int,
) -> list[Image.Image]:
    """Mixed as latents of the model's codec."""
    model = FlowModel(pipe, source, edited, instruction, seed)
    return model.pictures(torch.lerp(model.source, model.ends[1:], model.strengths(strengths)))
