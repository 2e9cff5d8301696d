"""Everything of an edit that does not depend on its strength, encoded once, by the parent pipeline's own methods.

Legend: N strengths, T text tokens, P width of the pooled text, L packed target tokens, C latent channels, h and w sides
of the latents, f pixels per latent, H and W sides of the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from numpy.typing import NDArray
from torch import Tensor

from . import arguments

CHECKED = (
    "prompt",
    "prompt_2",
    "height",
    "width",
    "negative_prompt",
    "negative_prompt_2",
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
    "callback_on_step_end_tensor_inputs",
    "max_sequence_length",
)


def encode_edit(pipe: FluxKontextPipeline, call: dict[str, Any]) -> dict[str, Any]:
    """The same call with everything that does not depend on the strength encoded, in batches of one (or N)."""
    height, width = arguments.parent_output_size(pipe, call["height"], call["width"], call["max_area"])
    call = {**call, "height": height, "width": width, "max_area": height * width}
    call = _encode_texts(pipe, call)
    dtype, device = call["prompt_embeds"].dtype, pipe._execution_device
    image = call["image"]
    if image is not None and not arguments.is_latents(pipe, image):
        pixels = arguments.source_pixels(pipe, image, call["_auto_resize"]).to(device=device, dtype=dtype)
        call["image"] = pipe._encode_vae_image(pixels, call["generator"])  # (1, C, h, w)
    channels = pipe.transformer.config.in_channels // 4
    call["latents"], *_ = pipe.prepare_latents(
        None, 1, channels, height, width, dtype, device, call["generator"], call["latents"]
    )  # (1, L, 4 C)
    return {**call, "generator": None}


def decode(pipe: FluxKontextPipeline, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Packed latents (N, L, 4 C) to pixels (N, 3, H, W) in [0, 1], `size` = (width, height)."""
    unpacked = pipe._unpack_latents(latents, size[1], size[0], pipe.vae_scale_factor)  # (N, C, H / f, W / f)
    unpacked = unpacked / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    pixels = pipe.vae.decode(unpacked, return_dict=False)[0]
    return pipe.image_processor.postprocess(pixels, output_type="pt")


@torch.no_grad()
def coded(pipe: FluxKontextPipeline, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the codec alone leaves of a picture: (H, W, 3) in [0, 1], encoded and decoded, not clipped."""
    pixels = torch.from_numpy(picture.transpose(2, 0, 1))[None].to(pipe.device, pipe.vae.dtype) * 2 - 1
    decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
    return ((decoded[0].float().cpu().numpy().transpose(1, 2, 0)) + 1) / 2


def packed_source(pipe: FluxKontextPipeline, call: dict[str, Any]) -> Tensor | None:
    """The source of an encoded call as target tokens, (1 or N, L, 4 C); None where the output has another size."""
    *_, height, width = call["image"].shape
    fits = (height * pipe.vae_scale_factor, width * pipe.vae_scale_factor) == (call["height"], call["width"])
    return pipe._pack_latents(call["image"], *call["image"].shape) if fits else None


def _encode_texts(pipe: FluxKontextPipeline, call: dict[str, Any]) -> dict[str, Any]:
    """Prompts become embeddings: (1, T, width) and pooled (1, P); the negative ones only where they are used."""
    names = ("prompt", "prompt_2", "prompt_embeds", "pooled_prompt_embeds")
    negative = {name: call[f"negative_{name}"] for name in names}
    positive = {name: call[name] for name in names}
    _check_texts(pipe, call)
    has_negative = negative["prompt"] is not None or negative["prompt_embeds"] is not None
    both = {"": positive, "negative_": negative if has_negative and call["true_cfg_scale"] > 1 else None}
    scale = (call["joint_attention_kwargs"] or {}).get("scale")
    encoded: dict[str, Any] = {}
    for prefix, texts in both.items():
        embeds = pooled = None
        if texts is not None:
            embeds, pooled, _ = pipe.encode_prompt(
                **texts,
                device=pipe._execution_device,
                max_sequence_length=call["max_sequence_length"],
                lora_scale=scale,
            )
        encoded |= {f"{prefix}prompt_embeds": embeds, f"{prefix}pooled_prompt_embeds": pooled}
        encoded |= {f"{prefix}prompt": None, f"{prefix}prompt_2": None}
    return {**call, **encoded}


def _check_texts(pipe: FluxKontextPipeline, call: dict[str, Any]) -> None:
    """The parent's own complaints, before anything is encoded."""
    pipe.check_inputs(**{name: call[name] for name in CHECKED})
