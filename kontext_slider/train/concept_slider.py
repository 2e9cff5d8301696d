"""Concept Sliders (Gandikota et al. 2023, arXiv 2311.12092) on a Kontext model: a LoRA for each instruction.

With the words for no edit and the LoRA, the model learns the velocity that a pair of opposite instructions gives:

    v*(z) = v(z, no edit) + eta (v(z, instruction) - v(z, opposite))

At no edit's own scale, 0, the source is kept; the scale of the LoRA is the strength. `evaluate --concept-sliders` loads
what is saved here: a folder of folders, one for each instruction, each with a LoRA file as diffusers writes it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from peft import LoraConfig
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from kontext_slider import lora
from kontext_slider.base import Conditioning, TextEncoding, family_of
from kontext_slider.base_edit import BaseEdit
from kontext_slider.files import write_json
from kontext_slider.instructions import NO_EDIT, folder_name
from kontext_slider.lora_file import write_lora
from kontext_slider.metrics import to_image
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.config import Count, Positive, Share
from kontext_slider.world.edits import NOUNS
from kontext_slider.world.scene import draw, random_scene

SETTINGS = "concept.json"  # beside a LoRA: what it was trained on
DRAWN_SIZE, MOST_DRAWN = 192, 32  # pixels a side of synthetic scenes, and how many there are for an instruction


class ConceptConfig(BaseModel):
    """The settings of a concept slider.

    Attributes:
        opposite: the instruction's opposite ("make it day" to "make it night"), or no edit where it has none.
        eta: how much of the difference is learnt; more than 1 exaggerates the edit.
        steps, rate, rank: of the training and of the LoRA; one source at a time.
        clip: largest norm of the gradient.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    opposite: str = NO_EDIT
    eta: Positive = 1.0
    steps: Count = 100
    rate: Share = 1e-3
    rank: Count = 4
    clip: Positive = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


def train_concept_sliders(
    pipe: KontextSliderPipeline,
    instructions: Sequence[str],
    config: ConceptConfig,
    folder: Path,
    sources: Sequence[Image.Image] = (),
) -> None:
    """A concept slider for every instruction that has none in `folder` yet.

    sources: pictures to train on, with sides that are multiples of the packing; without any, synthetic scenes that
        show what the instruction names.
    """
    for instruction in instructions:
        place = folder / folder_name(instruction)
        if not (place / SETTINGS).exists():
            pictures = sources or draw_sources(instruction, DRAWN_SIZE, min(config.steps, MOST_DRAWN), config.seed)
            write_lora(place, train_concept_slider(pipe, instruction, config, pictures))
            write_json(place / SETTINGS, {"instruction": instruction, **config.model_dump()})


def train_concept_slider(
    pipe: KontextSliderPipeline, instruction: str, config: ConceptConfig, sources: Sequence[Image.Image]
) -> lora.LoraWeights:
    """The LoRA of one instruction. The pipeline's own slider is there again behind it."""
    transformer, targets = pipe.transformer, list(family_of(pipe.transformer).lora_targets)
    torch.manual_seed(config.seed)
    transformer.requires_grad_(False)
    with lora.slider_lora_kept(transformer):
        lora.add_lora(transformer, LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=targets))
        parameters = lora.slider_lora_parameters(transformer)
        for parameter in parameters:
            parameter.data = parameter.data.float()
        optimizer = torch.optim.AdamW(parameters, config.rate)
        for step in range(config.steps):
            edit = BaseEdit(pipe, sources[step % len(sources)], instruction, config.seed + step)
            concept_loss(edit, config, random.Random(config.seed + step)).backward()
            clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            optimizer.zero_grad()
        trained = lora.take_lora(transformer)
    assert trained is not None
    return trained


def concept_loss(edit: BaseEdit, config: ConceptConfig, chance: random.Random) -> Tensor:
    """The mean square of what the LoRA misses of v*, a scalar. As in sampling, the latents are those that the model and
    the LoRA have come to, after a random number of steps."""
    neutral, sigmas, z = edit.encode_text(NO_EDIT), edit.sigmas(), edit.noise.latents
    place = chance.randrange(len(sigmas) - 1)
    for sigma, following in pairwise(sigmas[: place + 1]):
        z = z + (following - sigma) * edit.velocity(z, sigma, neutral, with_lora=True)
    shares: dict[str, float] = {}
    for text, share in ((NO_EDIT, 1.0), (edit.instruction, config.eta), (config.opposite, -config.eta)):
        shares[text] = shares.get(text, 0.0) + share
    velocities = [share * edit.velocity(z, sigmas[place], edit.encode_text(t)) for t, share in shares.items() if share]
    return mse_loss(velocity_with_lora(edit, z, sigmas[place], neutral), torch.stack(velocities).sum(0).float())


def velocity_with_lora(edit: BaseEdit, z: Tensor, sigma: float, text: TextEncoding) -> Tensor:
    """`edit.velocity` with the LoRA, whose parameters gradients reach; in float32."""
    transformer, conditioning = edit.pipe.transformer, Conditioning(text, edit.source, edit.noise, edit.guidance)
    with lora.slider_lora(transformer, on=True):
        time = torch.tensor(sigma, dtype=edit.dtype, device=z.device)
        return edit.base.velocity(transformer, z.to(edit.dtype), time, conditioning).float()


def draw_sources(instruction: str, size: int, count: int, seed: int) -> list[Image.Image]:
    """Synthetic scenes that training may see, with an object that the instruction names, if it names one."""
    rng, words = np.random.default_rng((seed, 0)), f" {instruction.lower()} "
    named = [n for n in NOUNS if f" the {n} " in words] or [n for n in NOUNS if f" {n} " in words]
    pictures: list[Image.Image] = []
    while len(pictures) < count:
        scene = random_scene(rng)
        if not named or any(scene.name_of(index) in named for index in range(len(scene.things))):
            pictures.append(to_image(draw(scene, size, size)))
    return pictures
