"""FLUX.1 Kontext, and every model made of the same classes: the pocket model is one.

With what is here, a render computes exactly what `FluxKontextPipeline.__call__` (diffusers 0.42) computes between its
encoders and its output, in the same order and precision.

Legend as in `base`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel, SchedulerMixin
from diffusers.pipelines.flux.pipeline_flux_kontext import (
    PREFERRED_KONTEXT_RESOLUTIONS,
    calculate_shift,
    retrieve_timesteps,
)
from PIL import Image
from torch import Tensor, nn

from ..model_folder import loading
from . import Conditioning, Place, Site, TextEncoding, Tokens


class Flux1Kontext:
    """The base model of one pipeline. See `base.BaseModel`, which says what each method does."""

    # Those of the public release; the names of the attention match the single blocks as well.
    lora_targets = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
        "ff.net.0.proj",
        "ff.net.2",
        "ff_context.net.0.proj",
        "ff_context.net.2",
    )
    preferred_sizes = PREFERRED_KONTEXT_RESOLUTIONS
    modulation_names = ("norm1", "norm1_context", "norm", "norm_out")
    mlp_shift_scale = (2, 3)  # norm1_context answers (x, gate_msa, shift_mlp, scale_mlp, gate_mlp)

    def __init__(self, pipe: FluxKontextPipeline) -> None:
        self._pipe = pipe

    def encode_text(self, instruction: str, max_sequence_length: int) -> TextEncoding:
        with loading("A text encoder of the model"):
            encoded = self._pipe.encode_prompt(
                instruction, device=self._pipe._execution_device, max_sequence_length=max_sequence_length
            )
        return TextEncoding(*encoded)

    def text_pieces(self, instruction: str, max_sequence_length: int) -> list[str]:
        tokenizer = self._pipe.tokenizer_2
        ids = tokenizer(instruction, truncation=True, max_length=max_sequence_length).input_ids
        return tokenizer.convert_ids_to_tokens(ids)

    def encode_source(self, image: Image.Image, dtype: torch.dtype) -> Tokens:
        pipe = self._pipe
        pixels = pipe.image_processor.preprocess(image, image.height, image.width)  # (1, 3, H, W) in [-1, 1]
        _, latents, _, ids = pipe.prepare_latents(
            pixels, 1, self._num_channels, image.height, image.width, dtype, pipe._execution_device,
            latents=torch.empty(0),
        )  # fmt: skip
        return Tokens(latents, ids)

    def draw_noise(self, size: tuple[int, int], seed: int, dtype: torch.dtype, scale: float = 1.0) -> Tokens:
        pipe = self._pipe
        latents, _, ids, _ = pipe.prepare_latents(
            None, 1, self._num_channels, size[1], size[0], dtype, pipe._execution_device,
            torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return Tokens(latents * scale, ids)

    def guidance(self, scale: float) -> Tensor | None:
        if not self._pipe.transformer.config.guidance_embeds:
            return None
        return torch.full([1], scale, device=self._pipe._execution_device, dtype=torch.float32)

    def schedule(self, steps: int, num_tokens: int) -> SchedulerMixin:
        scheduler = type(self._pipe.scheduler).from_config(self._pipe.scheduler.config)
        config = scheduler.config
        shift = calculate_shift(
            num_tokens,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        sigmas = np.linspace(1.0, 1 / steps, steps)
        retrieve_timesteps(scheduler, steps, self._pipe._execution_device, sigmas=sigmas, mu=shift)
        return scheduler

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        pipe = self._pipe
        unpacked = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)
        unpacked = unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
        return pipe.image_processor.postprocess(pipe.vae.decode(unpacked, return_dict=False)[0], output_type="pt")

    def round_trip(self, pixels: Tensor) -> Tensor:
        vae = self._pipe.vae
        latents = vae.encode(pixels.to(self._pipe.device, vae.dtype) * 2 - 1).latent_dist.mode()
        return (vae.decode(latents).sample.float() + 1) / 2

    def to_picture(self, pixels: Tensor) -> Image.Image:
        return self._pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[False])[0]

    def to_pixels(self, picture: Image.Image) -> Tensor:
        processor = self._pipe.image_processor
        return processor.denormalize(processor.preprocess(picture, picture.height, picture.width))

    @property
    def _num_channels(self) -> int:
        """Of a latent that is not packed."""
        return self._pipe.transformer.config.in_channels // 4

    @staticmethod
    def velocity(transformer: FluxTransformer2DModel, latents: Tensor, time: Tensor, edit: Conditioning) -> Tensor:
        rows = len(latents)

        def of_batch(tensor: Tensor) -> Tensor:
            return tensor.expand(rows, *tensor.shape[1:])

        return transformer(
            hidden_states=torch.cat([latents, of_batch(edit.source.latents)], dim=1),  # (B, L + S, C)
            timestep=time.expand(rows),
            guidance=None if edit.guidance is None else of_batch(edit.guidance),
            pooled_projections=of_batch(edit.text.pooled),
            encoder_hidden_states=of_batch(edit.text.embeds),
            txt_ids=edit.text.ids,
            img_ids=torch.cat([edit.noise.ids, edit.source.ids]),
            return_dict=False,
        )[0][:, : latents.shape[1]]

    @staticmethod
    def pack(latents: Tensor) -> Tensor:
        return FluxKontextPipeline._pack_latents(latents, *latents.shape)

    @staticmethod
    def token_ids(height: int, width: int, is_source: bool, device: torch.device | None = None) -> Tensor:
        ids = FluxKontextPipeline._prepare_latent_image_ids(1, height // 2, width // 2, device, torch.float32)
        ids[:, 0] = float(is_source)
        return ids

    @staticmethod
    def modulation_sites(transformer: FluxTransformer2DModel, place: Place | None = None) -> list[Site]:
        if place == "time_text_embed":
            return [Site(transformer, ("time_text_embed",))]
        if place == "text_stream":  # every double block, as in the paper
            return [Site(block, ("norm1_context",)) for block in transformer.transformer_blocks]
        double = [Site(block, ("norm1", "norm1_context")) for block in transformer.transformer_blocks]
        single = [Site(block, ("norm",)) for block in transformer.single_transformer_blocks]
        return [*double, *single, Site(transformer, ("norm_out",))]

    @staticmethod
    def blocks(transformer: FluxTransformer2DModel) -> Sequence[nn.Module]:
        return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
