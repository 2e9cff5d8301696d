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
from kontext_slider.evaluate.baselines.method import ByLatents, ByVelocity, LatentsAt, VelocityAt
from kontext_slider.instructions import NO_EDIT


@dataclass(frozen=True)
class CfgScale(ByVelocity):
    """Classifier-free guidance from no edit (0) to the instruction (1)."""

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))
        return lambda s, z, sigma: torch.lerp(without(z, sigma), with_text(z, sigma), s)


@dataclass(frozen=True)
class VeloEdit(ByVelocity):
    """VeloEdit (arXiv 2603.13388): in the first step, keep the source's velocity where both agree, else mix.

    agreement: from which on the source's velocity is kept."""

    agreement: float = 0.8

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text = edit.velocity_under(edit.text)

        def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
            v = with_text(z, sigma)
            if sigma < 1:
                return v
            keep = edit.velocity_to_source(z, sigma)
            agreement = keep.abs() / (keep.abs() + (v - keep).abs()).clamp_min(1e-6)
            return torch.where(agreement >= self.agreement, keep, torch.lerp(keep, v, strength))

        return velocity


@dataclass(frozen=True)
class AdaOr(ByVelocity):
    """AdaOr-like mixing (arXiv 2602.03826): the guidance starts from the source at 0, from no edit at 1."""

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))

        def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
            empty = without(z, sigma)
            origin = torch.lerp(edit.velocity_to_source(z, sigma), empty, math.sqrt(strength))
            return origin + strength * (with_text(z, sigma) - empty)

        return velocity


@dataclass(frozen=True)
class FlowSlider(ByLatents):
    """FlowSlider (arXiv 2604.02088) carried over to Kontext: fidelity and steering velocities between two noisy
    pictures, no edit in the place of the source's caption."""

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))
        source = edit.source.latents

        def latents_at(strength: float) -> Tensor:
            generator, z = torch.Generator().manual_seed(edit.seed), source
            for sigma, following in pairwise(edit.sigmas()):
                noise = torch.randn(source.shape, generator=generator).to(source)
                a = (1 - sigma) * source + sigma * noise
                b = z + a - source
                base = without(b, sigma)
                step = base - without(a, sigma) + strength * (with_text(b, sigma) - base)
                z = z + (following - sigma) * step
            return z

        return latents_at
