"""The paper's ablations as models (section 4, table 2) and ours, outside the shipped path: what they are, on disk, in
pictures.

All but "text-space" are ordinary sliders on disk.

Legend: B frames (one strength each), P width of the pooled text.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.checkpoint import SliderWeights, read_lora, slider_card, write_slider
from kontext_slider.edit import MAX_STRENGTH, check_strengths
from kontext_slider.errors import CheckpointError, MissingSlider
from kontext_slider.hub import PROJECTOR_FILE, PROJECTOR_FOLDER
from kontext_slider.modulation import offsets_attached
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import ModulationOffsets, StrengthProjector
from kontext_slider.train.slider.projectors import (
    NoPooledProjector,
    TextSpaceProjector,
    settings_of,
    token_appended,
)

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list]

ABLATIONS = {  # name -> what a reader of the report is told
    "same-steps": "the shipped design on the drawn truth, every frame trained for itself, for as long as the other "
    "ablations.",
    "paired": "the same, with frames trained as they are shown, with their share of what the frame at strength 0 "
    "loses.",
    "own-guess": "as paired, half of the time going on from the model's own first guess at a frame and not from the "
    "truth.",
    "polynomial": "as own-guess, with offsets that are a cubic of the strength and not what the projector says at "
    "every strength: as the shipped slider is.",
    "text-stream": "the same, with the offsets where the paper adds them: in the text stream of every double block.",
    "text-space": "the same, with the strength as one more text token in the place of offsets.",
    "per-block": "the same, with a pair of offsets for every block in the place of one for all.",
    "no-pooled": "the same, from a projector that does not see the pooled text.",
    "sinusoidal": "the same, with the strength as 128 sines and cosines, as the paper has it, in the place of the "
    "released code's two.",
    "filtered": "the shipped design on sequences of the data pipeline in the place of the drawn truth, those that its "
    "filter keeps.",
    "unfiltered": 'the paper\'s "without filtering": the same on as many sequences drawn from all, those that the '
    "filter rejects included.",
    "true-ends": "as filtered, with the source and the edit themselves at the ends of a sequence, where the paper has "
    "the morpher's reconstructions of them.",
}
CARD = "# Ablation: the strength as a text token\n\nRead by `kontext_slider.train.slider.ablations`.\n"


Projector = StrengthProjector | TextSpaceProjector


@contextmanager
def slider_on(
    transformer: FluxTransformer2DModel,
    projector: Projector,
    strengths: Tensor,
    pooled: Tensor,
    kept: Tensor | None = None,
) -> Iterator[None]:
    """A slider of any kind on the transformer inside the block: its LoRA active, its offsets or token attached.

    Args:
        strengths: (B,) in [0, 1].
        pooled: (B, P) or (1, P).
        kept: (B,) of 0 and 1; rows with 0 have no strength: their offsets (or their token) are zero. None: all 1.
    """
    answer = projector(strengths, pooled)
    if isinstance(projector, TextSpaceProjector):
        attached = token_appended(transformer, _kept(answer, kept))
    else:
        offsets = ModulationOffsets(*(_kept(part, kept) for part in answer))
        attached = offsets_attached(transformer, offsets, projector.config.place)
    with lora.slider_lora(transformer, on=True), attached:
        yield


def _kept(rows: Tensor, kept: Tensor | None) -> Tensor:
    """Rows (B, ...), those that are not kept zero."""
    return rows if kept is None else rows * kept.to(rows).reshape(-1, *[1] * (rows.ndim - 1))


class _AnySlider(KontextSliderPipeline):
    """A pipeline that applies a projector of any kind in the place of its own."""

    projector: Projector

    @contextmanager
    def slider_applied(self, strengths: float | Sequence[float], pooled: Tensor) -> Iterator[None]:
        """As the parent."""
        values = torch.tensor(check_strengths(strengths, MAX_STRENGTH), device=pooled.device)
        with slider_on(self.transformer, self.projector, values, pooled):
            yield

    def _require_slider(self) -> Any:
        return self.projector


def with_projector(pipe: KontextSliderPipeline, projector: Projector) -> KontextSliderPipeline:
    """The same pipeline, its modules shared and its LoRA as it is, with a projector of any kind."""
    view: Any = copy.copy(pipe)
    view.__class__ = _AnySlider
    view.projector = projector
    return view


def render(
    pipe: KontextSliderPipeline,
    projector: Projector,
    image: Image.Image,
    instruction: str,
    strengths: Sequence[float],
    seed: int,
) -> list:
    """Frames (H, W, 3) in [0, 1] by a projector of any kind and the LoRA that is on the pipeline."""
    generator = torch.Generator().manual_seed(seed)
    view = with_projector(pipe, projector)
    return list(view(image, instruction, strength=list(strengths), generator=generator, output_type="np").images)


def ablation_method(weights: SliderWeights) -> Method:
    """The trained ablation as a method that `evaluate` compares: on any pipeline of its base model, whose own slider is
    put back afterwards (as one that is not trained further)."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list:
        nn.Module.to(weights.projector, device=pipe.transformer.device, dtype=pipe.transformer.dtype)
        with _lora_in_place(pipe.transformer, weights.lora):
            return render(pipe, weights.projector, image, instruction, strengths, seed)

    return method


@contextmanager
def _lora_in_place(transformer: FluxTransformer2DModel, weights: lora.LoraWeights) -> Iterator[None]:
    previous = lora.take_lora(transformer)
    lora.put_lora(transformer, weights)
    try:
        yield
    finally:
        lora.remove_lora(transformer)
        if previous is not None:
            lora.put_lora(transformer, previous)


def take_weights(projector: Projector, transformer: FluxTransformer2DModel) -> SliderWeights:
    """The slider as it would be saved. Raises MissingSlider for a transformer without the slider's LoRA."""
    weights = lora.take_lora(transformer)
    if weights is None:
        raise MissingSlider("This transformer has no slider LoRA. Train or load a slider first.")
    return SliderWeights(projector.as_plain() if isinstance(projector, NoPooledProjector) else projector, weights)


def save_slider_of(folder: Path, projector: Projector, transformer: FluxTransformer2DModel) -> None:
    """Write a slider of any kind in our layout. `pipe.load_slider` reads it, but "text-space" it refuses."""
    weights = take_weights(projector, transformer)
    is_token = isinstance(weights.projector, TextSpaceProjector)
    write_slider(folder, weights, CARD if is_token else slider_card(weights, None))


def load_slider_of(folder: Path) -> SliderWeights:
    """Read what `save_slider_of` wrote. Raises CheckpointError for a folder that holds something else."""
    home = folder / PROJECTOR_FOLDER
    try:
        config = json.loads((home / "config.json").read_text(encoding="utf-8"))
        kind = TextSpaceProjector if config.get("_class_name") == TextSpaceProjector.__name__ else StrengthProjector
        projector = kind(**settings_of(config))
        projector.load_state_dict(load_file(home / PROJECTOR_FILE))
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"There is no readable slider in {str(folder)!r}: {error}") from error
    return SliderWeights(projector.eval(), read_lora(folder))
