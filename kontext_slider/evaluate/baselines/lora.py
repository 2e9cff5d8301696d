"""Sliders that are the scale of a LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kontext_slider.base_edit import BaseEdit
from kontext_slider.errors import MissingSlider
from kontext_slider.evaluate.baselines.method import ByScale, LatentsAt
from kontext_slider.lora import ADAPTER, slider_layers
from kontext_slider.modulation import offsets_attached
from kontext_slider.projector import ModulationOffsets


@dataclass(frozen=True, kw_only=True)
class LoraScale(ByScale):
    """LoRA scale, as ConceptSliders (Gandikota et al. 2023) use it: one adapter, weaker or stronger.

    The adapter is our slider at strength 0, LoRA and offsets, times 1 - scale: wholly on, it keeps the source; off, it
    leaves the base model's edit. Our slider at strength 1 times the scale would be no slider: both its ends edit.
    """

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        projector, transformer = edit.pipe.slider_projector, edit.pipe.transformer
        if projector is None:
            raise MissingSlider("LoRA scale needs the slider's own LoRA. Load a slider first.")
        with torch.no_grad():
            offsets = projector(torch.zeros(1, device=edit.text.pooled.device), edit.text.pooled)

        def latents_at(scale: float) -> Tensor:
            part = ModulationOffsets(*((1 - scale) * offset for offset in offsets))
            with offsets_attached(transformer, part, projector.config.place), lora_scaled(transformer, 1 - scale):
                return edit.sample(partial(edit.velocity, text=edit.text, with_lora=True))

        return latents_at


@contextmanager
def lora_scaled(transformer: nn.Module, factor: float) -> Iterator[None]:
    """The slider's LoRA times `factor` inside the block, where it is active."""
    before = {layer: layer.scaling[ADAPTER] for layer in slider_layers(transformer)}
    try:
        for layer, scaling in before.items():
            layer.scaling[ADAPTER] = factor * scaling
        yield
    finally:
        for layer, scaling in before.items():
            layer.scaling[ADAPTER] = scaling
