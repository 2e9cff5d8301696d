"""The algorithm: flow-matching Euler steps of a Kontext transformer, source tokens appended.

Legend: B frames in the batch, L target tokens, S source tokens, T text tokens, C channels of a packed token,
D text width, P pooled width, H, W pixels. With a plain velocity, everything here computes exactly what
FluxKontextPipeline.__call__ (diffusers 0.42) computes between its encoders and its output, in the same order and
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import FluxTransformer2DModel, SchedulerMixin
from diffusers.pipelines.flux.pipeline_flux_kontext import FluxKontextPipeline, calculate_shift, retrieve_timesteps
from PIL import Image

OnStep = Callable[[int, int], None]  # (step, total), steps counted 1..total
Velocity = Callable[[torch.Tensor, int], torch.Tensor]  # (latents (B, L, C), number of the step from 0) -> (B, L, C)


@dataclass(frozen=True)
class TextEncoding:
    """What the two text encoders say of an instruction."""

    embeds: torch.Tensor  # (1, T, D)
    pooled: torch.Tensor  # (1, P)
    ids: torch.Tensor  # (T, 3)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.embeds, self.pooled, self.ids))


@dataclass(frozen=True)
class SourceEncoding:
    """The source as packed latents, with position ids whose first entry is 1."""

    latents: torch.Tensor  # (1, S, C)
    ids: torch.Tensor  # (S, 3)

    @property
    def num_bytes(self) -> int:
        return self.latents.nbytes + self.ids.nbytes


@dataclass(frozen=True)
class Conditioning:
    """All that a denoise needs and that does not depend on the strength."""

    text: TextEncoding
    source: SourceEncoding
    noise: torch.Tensor  # (1, L, C)
    noise_ids: torch.Tensor  # (L, 3)
    guidance: torch.Tensor | None  # (1,), only for transformers that embed it


def denoise(
    velocity: Velocity,
    scheduler: SchedulerMixin,
    latents: torch.Tensor,
    before_step: Callable[[], object],
    on_step: OnStep | None = None,
    first: int = 0,
) -> torch.Tensor:
    """From one noise (1, L, C) to packed latents (B, L, C), B being the velocity's batch; or from latents (B, L, C) as
    they are before step number `first`.

    What `before_step` or `on_step` raises ends the loop between two steps. `scheduler` carries the timesteps of this
    one call (`prepare_scheduler`)."""
    scheduler.set_begin_index(first)
    for step, timestep in list(enumerate(scheduler.timesteps))[first:]:
        before_step()
        latents = scheduler.step(velocity(latents, step), timestep, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(step + 1, len(scheduler.timesteps))
    return latents


def plain_velocity(
    transformer: FluxTransformer2DModel, edit: Conditioning, timesteps: torch.Tensor, batch: int = 1
) -> Velocity:
    """The transformer's own forward pass, for `batch` frames."""
    img_ids = torch.cat([edit.noise_ids, edit.source.ids])

    def of_batch(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.expand(batch, *tensor.shape[1:])

    def velocity(latents: torch.Tensor, step: int) -> torch.Tensor:
        return transformer(
            hidden_states=torch.cat([of_batch(latents), of_batch(edit.source.latents)], dim=1),  # (B, L + S, C)
            timestep=timesteps[step].expand(batch).to(latents.dtype) / 1000,
            guidance=None if edit.guidance is None else of_batch(edit.guidance),
            pooled_projections=of_batch(edit.text.pooled),
            encoder_hidden_states=of_batch(edit.text.embeds),
            txt_ids=edit.text.ids,
            img_ids=img_ids,
            joint_attention_kwargs={},
            return_dict=False,
        )[0][:, : latents.shape[1]]

    return velocity


def prepare_scheduler(
    pipe: FluxKontextPipeline, steps: int, num_tokens: int, device: str | torch.device
) -> SchedulerMixin:
    """A scheduler of its own for one render, its shift computed from the number of target tokens."""
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    config = scheduler.config
    shift = calculate_shift(
        num_tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    retrieve_timesteps(scheduler, steps, device, sigmas=np.linspace(1.0, 1 / steps, steps), mu=shift)
    return scheduler


def encode_text(pipe: FluxKontextPipeline, instruction: str, max_sequence_length: int) -> TextEncoding:
    embeds, pooled, ids = pipe.encode_prompt(
        instruction, device=pipe._execution_device, max_sequence_length=max_sequence_length
    )
    return TextEncoding(embeds, pooled, ids)


def encode_source(pipe: FluxKontextPipeline, source: Image.Image, dtype: torch.dtype) -> SourceEncoding:
    """`source` has sides that are multiples of the packing; `dtype` is the text embeddings', as in the parent."""
    pixels = pipe.image_processor.preprocess(source, source.height, source.width)  # (1, 3, H, W) in [-1, 1]
    _, latents, _, ids = pipe.prepare_latents(
        pixels, 1, num_latent_channels(pipe), source.height, source.width, dtype, pipe._execution_device,
        latents=torch.empty(0),
    )  # fmt: skip
    return SourceEncoding(latents, ids)


def draw_noise(
    pipe: FluxKontextPipeline, size: tuple[int, int], seed: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed noise (1, L, C) and its ids (L, 3), drawn on the CPU so that a seed means the same on every device."""
    noise, _, ids, _ = pipe.prepare_latents(
        None, 1, num_latent_channels(pipe), size[1], size[0], dtype, pipe._execution_device,
        torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return noise, ids


def num_latent_channels(pipe: FluxKontextPipeline) -> int:
    return pipe.transformer.config.in_channels // 4


def to_picture(pipe: FluxKontextPipeline, pixels: torch.Tensor) -> Image.Image:
    """Pixels (1, 3, H, W) in [0, 1] to the frame, as the pipeline rounds them."""
    return pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[False])[0]


def to_pixels(pipe: FluxKontextPipeline, picture: Image.Image) -> torch.Tensor:
    """A picture to pixels (1, 3, H, W) in [0, 1], as the pipeline sees it."""
    return pipe.image_processor.denormalize(pipe.image_processor.preprocess(picture, picture.height, picture.width))
