"""What a frame is denoised with: the velocity at some strengths, prepared where that can be, plain elsewhere.

Legend: B frames, P pooled width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from ..lora import slider_lora
from .denoise import Conditioning, Velocity, plain_velocity
from .prepared import Prepared

if TYPE_CHECKING:
    from ..pipeline import KontextSliderPipeline

Applied = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Denoiser:
    """A velocity, and what must be on the transformer while it is asked."""

    velocity: Velocity
    applied: Applied


def plain_denoiser(
    pipe: KontextSliderPipeline, edit: Conditioning, timesteps: torch.Tensor, strengths: Sequence[float]
) -> Denoiser:
    """The transformer's own forward pass, the slider attached to it."""
    velocity = plain_velocity(pipe.transformer, edit, timesteps, len(strengths))
    return Denoiser(velocity, partial(pipe.slider_applied, list(strengths), edit.text.pooled))


def prepared_denoiser(
    pipe: KontextSliderPipeline, edit: Conditioning, prepared: Prepared, joined: bool, strengths: Sequence[float]
) -> Denoiser:
    """The same from what was prepared. Joined weights have the LoRA in them; the library's layers need it on."""
    projector = pipe.slider_projector
    assert projector is not None
    values = torch.tensor(list(strengths), device=edit.text.pooled.device)
    steps = prepared.table(projector(values, edit.text.pooled))
    applied: Applied = nullcontext if joined else partial(slider_lora, pipe.transformer, on=True)
    return Denoiser(lambda latents, step: prepared.velocity(latents, steps[step]), applied)
