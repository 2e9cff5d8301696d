"""Sliders that are the scale of a LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from kontext_slider.base_edit import BaseEdit
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines.method import ByScale, LatentsAt
from kontext_slider.hub import LORA_FILE
from kontext_slider.instructions import NO_EDIT, folder_name
from kontext_slider.lora import ADAPTER, put_lora, slider_layers, slider_lora_kept
from kontext_slider.lora_file import read_lora
from kontext_slider.pipeline import KontextSliderPipeline


@dataclass(frozen=True, kw_only=True)
class ConceptSlider(ByScale):
    """Concept Sliders (arXiv 2311.12092): a LoRA for each instruction, trained with the words for no edit towards the
    difference of two opposite instructions, by `kontext-slider train-concept`. The scale is the LoRA's.

    folder: of the trained sliders, by instruction."""

    folder: Path | None = None

    def unavailable(self, pipe: KontextSliderPipeline) -> str | None:
        if self.folder is None:
            return "concept-slider needs trained sliders: kontext-slider train-concept, then --concept-sliders FOLDER."
        return None

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        transformer, neutral = edit.pipe.transformer, edit.encode_text(NO_EDIT)
        weights = read_lora(self.slider_of(edit.instruction))

        def latents_at(scale: float) -> Tensor:
            with slider_lora_kept(transformer):
                put_lora(transformer, weights)
                with lora_scaled(transformer, scale):
                    return edit.sample(partial(edit.velocity, text=neutral, with_lora=True))

        return latents_at

    def slider_of(self, instruction: str) -> Path:
        """The folder of an instruction's slider. Raises InvalidInput where it was not trained."""
        assert self.folder is not None
        place = self.folder / folder_name(instruction)
        if not (place / LORA_FILE).is_file():
            raise InvalidInput(
                f"{self.folder} has no concept slider for {instruction!r}. Train it: kontext-slider train-concept "
                f"--out {self.folder} -i {instruction!r}."
            )
        return place


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
