"""The paper's ablations (section 4, table 2), on disk and in pictures.

"no-pooled" is an ordinary slider on disk. "text-space", a text token in the place of offsets, is read here alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from . import lora
from .checkpoint import SliderWeights, read_lora, read_projector, slider_card, write_slider
from .errors import MissingSlider
from .hub import PROJECTOR_FOLDER
from .pipeline import KontextSliderPipeline
from .projector import NoPooledProjector, Projector, TextSpaceProjector

VARIANTS = {  # name of an ablation -> its line in the report
    "full": "the design itself, trained as long as the ablations beside it.",
    "text-space": "the same, with the strength as one more text token in the place of offsets.",
    "no-pooled": "the same, from a projector that does not see the pooled text.",
    "no-filtering": "the same, trained on as many sequences drawn from all that the data pipeline made, those that its "
    "filter rejects included.",
}
TOKEN_CARD = "# Ablation: the strength as a text token\n\nRead by `kontext_slider.variants`.\n"


Frames = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list]


def with_projector(pipe: KontextSliderPipeline, projector: Projector) -> KontextSliderPipeline:
    """The same pipeline, its modules shared and its LoRA as it is, with a projector of any kind."""
    view: Any = copy.copy(pipe)
    view.slider_projector = projector
    return view


def variant_method(weights: SliderWeights) -> Frames:
    """A trained slider of any kind as (pipe, image, instruction, strengths, seed) -> frames (H, W, 3) in [0, 1], on any
    pipeline of its base model, whose own slider is put back afterwards (as one that is not trained further)."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list:
        transformer, generator = pipe.transformer, torch.Generator().manual_seed(seed)
        nn.Module.to(weights.projector, device=transformer.device, dtype=transformer.dtype)
        view = with_projector(pipe, weights.projector)
        with lora.slider_lora_kept(transformer):
            lora.put_lora(transformer, weights.lora)
            how = {"generator": generator, "output_type": "np", "source_at_zero": False}
            frames = view(image, instruction, strength=list(strengths), **how).images
        return list(frames)

    return method


def save_variant(folder: Path, projector: Projector, transformer: nn.Module) -> None:
    """Write a slider of any kind in our layout. `pipe.load_slider` reads it, but refuses "text-space".

    Raises MissingSlider for a transformer without the slider's LoRA."""
    taken = lora.take_lora(transformer)
    if taken is None:
        raise MissingSlider("This transformer has no slider LoRA. Train or load a slider first.")
    weights = SliderWeights(projector.as_plain() if isinstance(projector, NoPooledProjector) else projector, taken)
    is_token = isinstance(projector, TextSpaceProjector)
    write_slider(folder, weights, TOKEN_CARD if is_token else slider_card(weights, None))


def load_variant(folder: Path) -> SliderWeights:
    """Read what `save_variant` wrote. Raises CheckpointError for a folder that holds something else."""
    projector = read_projector(folder / PROJECTOR_FOLDER, {TextSpaceProjector.__name__: TextSpaceProjector})
    return SliderWeights(projector, read_lora(folder))
