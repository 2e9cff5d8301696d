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

from ..errors import MissingSlider
from ..projector import ModulationOffsets, StrengthProjector
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
    pipe: KontextSliderPipeline, edit: Conditioning, prepared: Prepared, strengths: Sequence[float]
) -> Denoiser:
    """The same from what was prepared, the slider's LoRA in it."""
    steps = prepared.table(offsets_at(pipe, edit, strengths))
    return Denoiser(lambda latents, step: prepared.velocity(latents, steps[step]), nullcontext)


def offsets_at(pipe: KontextSliderPipeline, edit: Conditioning, strengths: Sequence[float]) -> ModulationOffsets:
    """The slider's offsets at B strengths, for this edit's text, (B, D) each. Raises MissingSlider."""
    pooled = edit.text.pooled
    return projector_of(pipe)(torch.tensor(list(strengths), device=pooled.device), pooled)


def projector_of(pipe: KontextSliderPipeline) -> StrengthProjector:
    """The slider's. Raises MissingSlider where it was unloaded since the edit was opened."""
    if pipe.slider_projector is None:
        raise MissingSlider("This model has no slider weights any more. Load some with pipe.load_slider(...) first.")
    return pipe.slider_projector
