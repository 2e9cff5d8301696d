"""Rectified flow on Kontext tokens: the batch of a slider, the model's velocity, and the error that is trained.

Legend: B batch, C latent channels, h and w latent rows and columns, L = h w / 4 tokens of one picture, K = 4 C, T text
tokens, E and P widths of text and of pooled text.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kontext_slider.base import Conditioning, TextEncoding, Tokens, family_of
from kontext_slider.residual import residual_share

GUIDANCE = 1.0  # the distilled one, of transformers with such an input; the paper's
SMALLEST = 0.004  # added to a row's squared error before its logarithm: what pocket's codec itself loses of a picture
Weighting = Literal["none", "sigma_squared"]
Timesteps = Literal["uniform", "near_one", "one"]


class SliderBatch(NamedTuple):
    """Rows to train a slider on."""

    source: Tensor  # (B, C, h, w)
    target: Tensor  # (B, C, h, w)
    strengths: Tensor  # (B,)
    text: Tensor  # (B, T, E)
    pooled: Tensor  # (B, P)
    sigmas: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)
    kept: Tensor  # (B,) 1, or 0 where the slider is dropped
    weights: Tensor | None = None  # (B, L) of the target tokens

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, Tensor)}

    def with_untouched(self) -> SliderBatch:
        """The same rows, and behind them the same again at strength 0, where the target is the source:
        `corrected_error` takes the errors of both."""
        rows = self.tensors()
        untouched = rows | {"target": self.source, "strengths": torch.zeros_like(self.strengths)}
        both: dict[str, Any] = {name: torch.cat([rows[name], untouched[name]]) for name in rows}
        return self._replace(**both)


def sample_sigmas(timesteps: Timesteps, count: int, generator: torch.Generator) -> Tensor:
    """Noise levels in (0, 1], (B,): "uniform"; "near_one", 1 - u^2 for uniform u, dense where a noisy target does not
    yet show the edit and the instruction has to be read; or "one", for a model that takes one step."""
    if timesteps == "one":
        return torch.ones(count)
    drawn = torch.rand(count, generator=generator)
    return 1 - (drawn.square() if timesteps == "near_one" else drawn)


def flow_error(
    transformer: nn.Module,
    source: Tensor,
    target: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    weighting: Weighting = "sigma_squared",
) -> Tensor:
    """The error of the model's velocity, paper Eq. 1: x = (1 - sigma) y + sigma eps, the model predicts eps - y. Target
    tokens only, (B, L, K).

    Args:
        source, target, noise: (B, C, h, w).
        text, pooled: (B, T, E) and (B, P).
        sigmas: (B,).
        weighting: "sigma_squared", the error of the picture that a velocity points to, x - sigma v, which is what the
            last sampling step shows; or "none".
    """
    pack = family_of(transformer).pack
    clean, noise, sigma = pack(target), pack(noise), sigmas[:, None, None]
    noisy = (1 - sigma) * clean + sigma * noise
    error = velocity(transformer, noisy, source, text, pooled, sigmas) - (noise - clean)
    return error * sigma if weighting == "sigma_squared" else error


def velocity(
    transformer: nn.Module,
    noisy: Tensor,
    source: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """What the model predicts for target tokens `noisy` beside the source's, (B, L, K) in float32."""
    dtype, base = transformer.dtype, family_of(transformer)
    height, width = source.shape[-2:]
    no_ids = torch.zeros(text.shape[1], 3, device=noisy.device)
    edit = Conditioning(
        TextEncoding(text.to(dtype), pooled.to(dtype), no_ids),
        source=Tokens(base.pack(source).to(dtype), base.token_ids(height, width, True, noisy.device)),
        noise=Tokens(noisy, base.token_ids(height, width, False, noisy.device)),
        guidance=torch.full_like(sigmas, GUIDANCE) if transformer.config.guidance_embeds else None,
    )
    return base.velocity(transformer, noisy.to(dtype), sigmas, edit).float()


def corrected_error(frame: Tensor, untouched: Tensor, strengths: Tensor) -> Tensor:
    """The error of frames after the source residual correction (`kontext_slider.residual`), (B, L, K): at `strengths`
    (B,) it adds 1 - s of what the frame at strength 0 misses. An error that both make costs s of itself.

    frame, untouched: errors of the frames and, under the same noise, of those at strength 0, (B, L, K)."""
    return frame - residual_share(strengths)[:, None, None] * untouched


def weighted_square(error: Tensor, weights: Tensor | None = None, channels: Tensor | None = None) -> Tensor:
    """Mean square of an error (B, L, K), a scalar.

    Args:
        weights: of the target tokens, (B, L).
        channels: weights of the latent channels, (C,).
    """
    squares = channel_squares(error, channels)
    return (squares if weights is None else squares * weights[..., None]).mean()


def log_square(error: Tensor, channels: Tensor | None = None) -> Tensor:
    """Mean logarithm of the rows' mean squares, a scalar: a decibel of PSNR counts the same in every row, also where an
    edit is weak or its object small. Arguments as of `weighted_square`; tokens count alike."""
    return (channel_squares(error, channels).mean((1, 2)) + SMALLEST).log().mean()


def channel_squares(error: Tensor, channels: Tensor | None) -> Tensor:
    """Squares of an error (B, L, K), weighted by latent channel, (C,)."""
    squares = error.square()
    return squares if channels is None else squares * channels.repeat_interleave(4).to(squares)
