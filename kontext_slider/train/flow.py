"""Rectified flow on Kontext tokens: the loss, and a batch as the transformer wants it.

Legend: B batch, C latent channels, h and w latent rows and columns, L = h w / 4 tokens of one picture, K = 4 C.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from torch import Tensor

from kontext_slider import anchor
from kontext_slider.base import Conditioning, TextEncoding, Tokens, family_of

Rows = TypeVar("Rows", bound=Any)
Weighting = Literal["none", "sigma_squared"]


def pack(latents: Tensor) -> Tensor:
    """(B, C, h, w) -> tokens (B, L, K), 2 x 2 latents each."""
    return FluxKontextPipeline._pack_latents(latents, *latents.shape)


def token_positions(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Position ids (2 L, 3) of target tokens (first axis 0) and source tokens (first axis 1) of h x w latents."""
    target = FluxKontextPipeline._prepare_latent_image_ids(1, height // 2, width // 2, device, torch.float32)
    source = target.clone()
    source[:, 0] = 1
    return torch.cat([target, source])


def sample_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels in (0, 1], 1 - u^2 for uniform u: dense near 1, where a noisy target does not yet betray the edit
    and the instruction has to be read. (B,)"""
    return 1 - torch.rand(count, generator=generator).square()


def flow_loss(
    transformer: FluxTransformer2DModel,
    source: Tensor,
    target: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    weighting: Weighting = "sigma_squared",
    guidance: float = 1.0,
    weights: Tensor | None = None,
    channels: Tensor | None = None,
) -> Tensor:
    """Rectified-flow loss, paper Eq. 1: x = (1 - sigma) y + sigma eps, the model predicts eps - y; mean square over the
    target tokens only. Returns a scalar. Arguments as of `flow_error` and `weighted_square`."""
    error = flow_error(transformer, source, target, text, pooled, sigmas, noise, weighting, guidance)
    return weighted_square(error, weights, channels)


def flow_error(
    transformer: FluxTransformer2DModel,
    source: Tensor,
    target: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    weighting: Weighting = "sigma_squared",
    guidance: float = 1.0,
    hidden: Tensor | None = None,
) -> Tensor:
    """What the model's velocity is off by, (B, L, K).

    Args:
        source, target, noise: (B, C, h, w).
        text, pooled: (B, T, E) and (B, P).
        sigmas: (B,).
        weighting: "sigma_squared", the error of the picture that a velocity points to, x - sigma v, which is what the
            last sampling step shows; or "none".
        guidance: heard by transformers with such an input.
        hidden: what the noise hides, (B, L, K): the target if None, or what sampling will have there, the model's own
            `first_guess`. The way to go then ends at the target too.
    """
    clean, noise, sigma = pack(target), pack(noise), sigmas[:, None, None]
    hidden = clean if hidden is None else hidden
    noisy = (1 - sigma) * hidden + sigma * noise
    error = velocity(transformer, noisy, source, text, pooled, sigmas, guidance) - (noise - clean)
    missed = (1 - sigma) * (hidden - clean)
    return error * sigma - missed if weighting == "sigma_squared" else error - missed / sigma


def velocity(
    transformer: FluxTransformer2DModel,
    noisy: Tensor,
    source: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
    guidance: float,
) -> Tensor:
    """What the model predicts for target tokens `noisy` beside the source's, (B, L, K) in float32."""
    dtype, base = transformer.dtype, family_of(transformer)
    height, width = source.shape[-2:]
    no_ids = torch.zeros(text.shape[1], 3, device=noisy.device)
    edit = Conditioning(
        TextEncoding(text.to(dtype), pooled.to(dtype), no_ids),
        source=Tokens(pack(source).to(dtype), base.token_ids(height, width, True, noisy.device)),
        noise=Tokens(noisy, base.token_ids(height, width, False, noisy.device)),
        guidance=torch.full_like(sigmas, guidance) if transformer.config.guidance_embeds else None,
    )
    return base.velocity(transformer, noisy.to(dtype), sigmas, edit).float()


@torch.no_grad()
def first_guess(
    transformer: FluxTransformer2DModel,
    source: Tensor,
    text: Tensor,
    pooled: Tensor,
    noise: Tensor,
    guidance: float = 1.0,
) -> Tensor:
    """The picture that a first sampling step points to, from noise alone, (B, L, K). Arguments as of `flow_error`.

    Trained with the target under the noise, a model believes at later steps whatever shines through, its own mistakes
    too (exposure bias); trained with this there, it learns to correct them (scheduled sampling, Bengio et al. 2015)."""
    pure = pack(noise)
    return pure - velocity(transformer, pure, source, text, pooled, noise.new_ones(len(noise)), guidance)


def shown_error(frame: Tensor, untouched: Tensor, strengths: Tensor) -> Tensor:
    """What an anchored model's frames are off by, (B, L, K): at `strengths` (B,) they get back 1 - s of what the frame
    at strength 0 lost (`kontext_slider.anchor`). A mistake that both make costs s of itself.

    frame, untouched: errors of the frames and, under the same noise, of those at strength 0, (B, L, K)."""
    return frame - anchor.share(strengths)[:, None, None] * untouched


def beside_untouched(batch: Rows) -> Rows:
    """A batch, a dataclass of tensors (B, ...), and behind its rows the same again at strength 0, where the target is
    the source: `shown_error` takes the errors of both."""
    rows = vars(batch)
    untouched = {**rows, "target": rows["source"], "strengths": torch.zeros_like(rows["strengths"])}
    return type(batch)(**{name: torch.cat([rows[name], untouched[name]]) for name in rows})


def weighted_square(error: Tensor, weights: Tensor | None = None, channels: Tensor | None = None) -> Tensor:
    """Mean square of an error (B, L, K), a scalar.

    Args:
        weights: of the target tokens, (B, L).
        channels: weights of the latent channels, (C,).
    """
    squares = error.square()
    if channels is not None:
        squares = squares * channels.repeat_interleave(4).to(squares)
    return (squares if weights is None else squares * weights[..., None]).mean()
