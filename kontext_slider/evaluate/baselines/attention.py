"""Sliders inside the attention of the base model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.method import ByVelocity, VelocityAt


@dataclass(frozen=True)
class AttentionReweighting(ByVelocity):
    """Image tokens' attention to text tokens multiplied by the strength, before normalisation."""

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        num_text, num_tokens = edit.text.embeds.shape[1], 2 * edit.noise.latents.shape[1]

        def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
            bias = torch.zeros(num_text + num_tokens, num_text + num_tokens)
            bias[num_text:, :num_text] = math.log(max(strength, 1e-6))
            return edit.velocity(z, sigma, edit.text, attention={"attention_mask": bias.to(edit.noise.latents)})

        return velocity
