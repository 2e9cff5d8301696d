"""Validation strips: what the data shows at each strength, and below it what the slider makes of the source now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kontext_slider.picture_file import save_picture
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import Projector
from kontext_slider.train.rows import EncodedRows
from kontext_slider.variants import with_projector


def write_strips(
    pipe: KontextSliderPipeline, projector: Projector, rows: EncodedRows, numbers: list[int], path: Path, seed: int
) -> None:
    """One PNG: for every row of the data its frames above, its sweep below, a column per strength. Rows of other
    widths are filled up with white."""
    strips = [_strip(pipe, projector, rows, number, seed) for number in numbers]
    width = max(strip.shape[1] for strip in strips)
    filled = [np.pad(strip, ((0, 4), (0, width - strip.shape[1]), (0, 0)), constant_values=1.0) for strip in strips]
    picture = Image.fromarray(np.rint(np.concatenate(filled).clip(0, 1) * 255).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(picture, path, {"instructions": [rows.instruction(number) for number in numbers], "seed": seed})


@torch.no_grad()
def _strip(pipe: KontextSliderPipeline, projector: Projector, rows: EncodedRows, number: int, seed: int) -> np.ndarray:
    """(2 H, N W, 3) in [0, 1]"""
    device, dtype = pipe.transformer.device, pipe.transformer.dtype
    strengths = rows.strengths(number)
    order = strengths.argsort().tolist()
    latents = torch.stack([rows.latents(number, frame) for frame in order]).to(device, dtype)  # (N, C, h, w)
    text, pooled = (tensor[None].to(device, dtype) for tensor in rows.text(number))
    was_training = pipe.transformer.training
    pipe.transformer.eval()
    try:
        made = with_projector(pipe, projector)(
            image=rows.source(number)[None].to(device, dtype),
            prompt_embeds=text,
            pooled_prompt_embeds=pooled,
            strength=strengths[order].tolist(),
            allow_extrapolation=True,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            **_size(pipe, latents),
        ).images
    finally:
        pipe.transformer.train(was_training)
    wanted = [_decode(pipe, frame[None]) for frame in latents]
    return np.concatenate([np.concatenate(wanted, 1), np.concatenate(list(made), 1)])


def _decode(pipe: KontextSliderPipeline, latents: Tensor) -> np.ndarray:
    """(1, C, h, w) -> (H, W, 3) in [0, 1]"""
    unscaled = latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return pipe.image_processor.postprocess(pipe.vae.decode(unscaled, return_dict=False)[0], output_type="np")[0]


def _size(pipe: KontextSliderPipeline, latents: Tensor) -> dict[str, int]:
    """The pipeline's arguments for frames of the size of latents (N, C, h, w)."""
    height, width = (side * pipe.vae_scale_factor for side in latents.shape[-2:])
    return {"height": height, "width": width, "max_area": height * width}
