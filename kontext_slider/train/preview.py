"""Validation strips: what the data shows at each strength, and below it what the slider makes of the source now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

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
    device, dtype, codec = pipe.transformer.device, pipe.transformer.dtype, pipe.vae
    row = rows[number]
    order = row["strengths"].argsort()
    strengths = row["strengths"][order].tolist()
    row = {name: tensor.to(device, dtype) for name, tensor in row.items()}
    height, width = (side * pipe.vae_scale_factor for side in row["source"].shape[-2:])
    was_training = pipe.transformer.training
    pipe.transformer.eval()
    try:
        made = with_projector(pipe, projector)(
            image=row["source"][None],
            prompt_embeds=row["text"][None],
            pooled_prompt_embeds=row["pooled"][None],
            strength=strengths,
            allow_extrapolation=True,
            source_at_zero=False,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            height=height,
            width=width,
            max_area=height * width,
        ).images
    finally:
        pipe.transformer.train(was_training)
    latents = row["latents"][order.to(device)] / codec.config.scaling_factor + codec.config.shift_factor  # (N, C, h, w)
    frames = [codec.decode(frame[None], return_dict=False)[0] for frame in latents]
    wanted = pipe.image_processor.postprocess(torch.cat(frames), output_type="np")
    return np.concatenate([np.concatenate(list(wanted), 1), np.concatenate(list(made), 1)])
