"""The paper's own first experiment: the modulation of the text tokens times a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kontext_slider.base import family_of
from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.method import ByVelocity, VelocityAt

NUM_PARTS, MLP = 6, (3, 4)  # shift, scale and gate of the attention, then of the MLP: what offsets are added to


@dataclass(frozen=True, kw_only=True)
class ModulationScale(ByVelocity):
    """Fig. 14 of the paper: the modulation parameters of the text tokens in every double block, times the scale; 1 is
    the base model's edit.

    mlp_only: the MLP's shift and scale alone, the place of the slider's offsets; else the attention's and all gates
        too."""

    start: float = -1.0
    end: float = 2.0
    mlp_only: bool = True

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        parts = MLP if self.mlp_only else tuple(range(NUM_PARTS))

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            with text_modulation_scaled(edit.pipe.transformer, scale, parts):
                return edit.velocity(z, sigma, edit.text)

        return velocity


@contextmanager
def text_modulation_scaled(transformer: nn.Module, factor: float, parts: tuple[int, ...]) -> Iterator[None]:
    """Some of the six parts of every text modulation times `factor` inside the block."""
    factors = torch.ones(NUM_PARTS, 1)
    factors[list(parts)] = factor

    def scaled(layer: nn.Module, given: tuple, answer: Tensor) -> Tensor:  # (B, 6 D)
        return (answer.unflatten(-1, (NUM_PARTS, -1)) * factors.to(answer)).flatten(-2)

    with ExitStack() as hooks:
        for owner, names in family_of(transformer).modulation_sites(transformer, "text_stream"):
            for name in names:
                hook = owner.get_submodule(name).get_submodule("linear").register_forward_hook(scaled)
                hooks.callback(hook.remove)
        yield
