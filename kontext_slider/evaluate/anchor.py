"""The anchor told apart from the slider that is trained with it.

The anchor (`anchor_source`, `residual.py`) gives every frame at strength s back 1 - s of what the frame at 0 misses of
the source. It alone is a slider already: with an untrained one every frame is the full edit E, and E + (1 - s)(S - E)
is the cross-fade of the source S and E. So a slider's worth is what it adds to that, and baselines may have the anchor
as well.

Legend: pictures (H, W, 3) in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from kontext_slider.evaluate.baselines import Method, ours
from kontext_slider.evaluate.baselines.lora import lora_scaled
from kontext_slider.metrics import Picture
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import StrengthProjector
from kontext_slider.residual import correct
from kontext_slider.variants import with_projector


def with_anchor(pipe: KontextSliderPipeline, on: bool) -> KontextSliderPipeline:
    """The same pipeline, its modules shared, with the anchor or without it."""
    return pipe if pipe.defaults.anchor_source == on else with_defaults(pipe, anchor_source=on)


def with_defaults(pipe: KontextSliderPipeline, **changes: Any) -> KontextSliderPipeline:
    """The same pipeline, its modules shared, with other settings of its own."""
    view: Any = copy.copy(pipe)
    view.register_to_config(edit_defaults={**(pipe.config.edit_defaults or {}), **changes})
    return view


@dataclass(frozen=True)
class UnderAnchor:
    """A slider's method, run with the anchor or without it, whatever the pipeline has; None: as the pipeline has it.
    in_one_step: whether a render has one step, or as many as the base model's own; None: as the pipeline has it."""

    method: Method
    on: bool | None
    in_one_step: bool | None = None

    def __call__(
        self, pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        view = pipe if self.on is None else with_anchor(pipe, self.on)
        if self.in_one_step is not None:
            view = with_defaults(view, steps=1 if self.in_one_step else pipe.defaults.steps_of_base)
        return self.method(view, image, instruction, strengths, seed)


def untrained(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """The anchor alone: this pipeline's slider before training (no offsets, a LoRA without effect), with the anchor and
    as many steps as suit the base model."""
    settings = {name: value for name, value in pipe.require_slider().config.items() if not name.startswith("_")}
    fresh = StrengthProjector(**{**settings, "hidden_dim": 1}).zero_last_layer()
    nn.Module.to(fresh, device=pipe.transformer.device, dtype=pipe.transformer.dtype)
    with lora_scaled(pipe.transformer, 0.0):
        view = with_defaults(pipe, anchor_source=True, steps=pipe.defaults.steps_of_base)
        return ours(with_projector(view, fresh), image, instruction, strengths, seed)


def anchored(frames: Sequence[Picture], strengths: Sequence[float], source: Picture) -> list[Picture]:
    """A sweep of any method with the anchor; frames begin at strength 0. The first becomes the source, one at 1 stays.

    The sweep is rendered once for both rows, with the anchor and without it."""
    stack = torch.from_numpy(np.stack(frames))
    return list(correct(stack, strengths, torch.from_numpy(source - frames[0])[None]).numpy())
