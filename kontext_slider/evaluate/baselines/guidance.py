"""Sliders by guidance: velocities under several texts, or towards the source, mixed.

Legend: L target tokens, C channels of a packed token; latents and velocities (1, L, C); sigma in (0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.method import ByScale, ByVelocity, LatentsAt, VelocityAt
from kontext_slider.instructions import NO_EDIT
from kontext_slider.pipeline import KontextSliderPipeline


@dataclass(frozen=True, kw_only=True)
class CfgScale(ByVelocity):
    """Classifier-free guidance, v = v(negative) + scale (v(instruction) - v(negative)): 0 is no edit, 1 the base
    model's, more exaggerates. Table 3 of the paper sweeps the scale of its base."""

    negative: str = NO_EDIT

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(self.negative))
        return lambda scale, z, sigma: torch.lerp(without(z, sigma), with_text(z, sigma), scale)


@dataclass(frozen=True, kw_only=True)
class GuidanceScale(ByVelocity):
    """The distilled guidance of a transformer that embeds it (FLUX.1), what `guidance_scale` sets in diffusers."""

    start: float = 1.0
    end: float = 6.0

    def unavailable(self, pipe: KontextSliderPipeline) -> str | None:
        if not pipe.transformer.config.guidance_embeds:
            return "guidance-scale needs a transformer that embeds the guidance, as FLUX.1 does. Take cfg-scale."
        return None

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        return lambda scale, z, sigma: edit.velocity(z, sigma, edit.text, guidance=scale)


@dataclass(frozen=True, kw_only=True)
class VeloEdit(ByVelocity):
    """VeloEdit (arXiv 2603.13388): in the first steps, keep the source's velocity where both agree, else mix.

    agreement: from which on the source's velocity is kept.
    until: the noise level down to which that is done; 1 is the first step alone. The authors have .8 and the first
        steps."""

    agreement: float = 0.95
    until: float = 0.0

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text = edit.velocity_under(edit.text)

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            v = with_text(z, sigma)
            if sigma < self.until:
                return v
            keep = edit.velocity_to_source(z, sigma)
            agreement = keep.abs() / (keep.abs() + (v - keep).abs()).clamp_min(1e-6)
            return torch.where(agreement >= self.agreement, keep, torch.lerp(keep, v, scale))

        return velocity


@dataclass(frozen=True, kw_only=True)
class AdaOr(ByVelocity):
    """AdaOr-like mixing (arXiv 2602.03826): v = O + scale w (v(text) - v(no edit)), whose origin O goes from the
    source's velocity at 0 to that of no edit at 1, as sqrt(scale); w: `guidance`."""

    guidance: float = 1.0

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            empty = without(z, sigma)
            origin = torch.lerp(edit.velocity_to_source(z, sigma), empty, math.sqrt(scale))
            return origin + scale * self.guidance * (with_text(z, sigma) - empty)

        return velocity


@dataclass(frozen=True, kw_only=True)
class FlowSlider(ByScale):
    """FlowSlider (arXiv 2604.02088) carried over to Kontext: fidelity and steering velocities between two noisy
    pictures, no edit in the place of the source's caption; the scale is that of the steering."""

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))
        source = edit.source.latents

        def latents_at(scale: float) -> Tensor:
            generator, z = torch.Generator().manual_seed(edit.seed), source
            for sigma, following in pairwise(edit.sigmas()):
                noise = torch.randn(source.shape, generator=generator).to(source)
                a = (1 - sigma) * source + sigma * noise
                b = z + a - source
                base = without(b, sigma)
                step = base - without(a, sigma) + scale * (with_text(b, sigma) - base)
                z = z + (following - sigma) * step
            return z

        return latents_at
