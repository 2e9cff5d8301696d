"""Other ways to get a slider out of the same base model, behind one signature, to be measured beside ours.

A method is `(pipe, image, instruction, strengths, seed) -> frames`. No baseline is trained; all but `lora_scale` run
the base model without the slider. Sources: the method's paper, beside each; all on the same noise, steps and guidance.

Legend: L target tokens, C channels of a packed token; latents and velocities (1, L, C); sigma in (0, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor, nn

from kontext_slider.base_edit import BaseEdit, edited_picture
from kontext_slider.errors import MissingSlider
from kontext_slider.instructions import NO_EDIT
from kontext_slider.lora import ADAPTER, slider_layers
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.modulation import offsets_attached
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import ModulationOffsets

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list[Picture]]
LatentsAt = Callable[[float], Tensor]  # strength -> latents
VelocityAt = Callable[[float, Tensor, float], Tensor]  # (strength, latents, sigma) -> velocity
Morpher = Callable[[KontextSliderPipeline, Image.Image, Image.Image, str, Sequence[float], int], list[Image.Image]]


def ours(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """The slider of this pipeline."""
    generator = torch.Generator().manual_seed(seed)
    return list(pipe(image, instruction, strength=list(strengths), generator=generator, output_type="np").images)


def pixel_cross_fade(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """Source and full edit, mixed as pictures."""
    source, full = to_picture(image), edited_picture(pipe, image, instruction, seed)
    return [(1 - s) * source + s * full for s in strengths]


def by_latents(make: Callable[[BaseEdit], LatentsAt]) -> Method:
    """The method whose frames are decoded from latents that an edit of the base model has at each strength."""

    @functools.wraps(make)
    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        edit = BaseEdit(pipe, image, instruction, seed)
        latents_at = make(edit)
        return [edit.picture(latents_at(s)) for s in strengths]

    return method


def by_velocity(make: Callable[[BaseEdit], VelocityAt]) -> Method:
    """The method that takes Euler steps along a field of velocities, for each strength by itself."""

    def latents(edit: BaseEdit) -> LatentsAt:
        velocity = make(edit)
        return lambda s: edit.sample(functools.partial(velocity, s))

    return functools.wraps(make)(by_latents(latents))


@by_latents
def latent_cross_fade(edit: BaseEdit) -> LatentsAt:
    """Source and full edit, mixed as latents."""
    full = edit.sample(edit.velocity_under(edit.text))
    return lambda s: (1 - s) * edit.source.latents + s * full


@by_velocity
def cfg_scale(edit: BaseEdit) -> VelocityAt:
    """Classifier-free guidance from no edit (0) to the instruction (1)."""
    with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))
    return lambda s, z, sigma: torch.lerp(without(z, sigma), with_text(z, sigma), s)


@by_velocity
def attention_reweighting(edit: BaseEdit) -> VelocityAt:
    """Image tokens' attention to text tokens multiplied by the strength, before normalisation."""
    num_text, num_tokens = edit.text.embeds.shape[1], 2 * edit.noise.latents.shape[1]

    def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
        bias = torch.zeros(num_text + num_tokens, num_text + num_tokens)
        bias[num_text:, :num_text] = math.log(max(strength, 1e-6))
        return edit.velocity(z, sigma, edit.text, attention={"attention_mask": bias.to(edit.noise.latents)})

    return velocity


@by_velocity
def velo_edit(edit: BaseEdit) -> VelocityAt:
    """VeloEdit (arXiv 2603.13388): in the first step, keep the source's velocity where both agree, else mix."""
    with_text = edit.velocity_under(edit.text)

    def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
        v = with_text(z, sigma)
        if sigma < 1:
            return v
        keep = edit.velocity_to_source(z, sigma)
        agreement = keep.abs() / (keep.abs() + (v - keep).abs()).clamp_min(1e-6)
        return torch.where(agreement >= 0.8, keep, torch.lerp(keep, v, strength))

    return velocity


@by_velocity
def ada_or(edit: BaseEdit) -> VelocityAt:
    """AdaOr-like mixing (arXiv 2602.03826): the guidance starts from the source at 0, from no edit at 1."""
    with_text, without = edit.velocity_under(edit.text), edit.velocity_under(edit.encode_text(NO_EDIT))

    def velocity(strength: float, z: Tensor, sigma: float) -> Tensor:
        empty = without(z, sigma)
        origin = torch.lerp(edit.velocity_to_source(z, sigma), empty, math.sqrt(strength))
        return origin + strength * (with_text(z, sigma) - empty)

    return velocity


@by_latents
def flow_slider(edit: BaseEdit) -> LatentsAt:
    """FlowSlider (arXiv 2604.02088) carried over to Kontext: fidelity and steering velocities between two noisy
    pictures, no edit in the place of the source's caption."""
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


@by_latents
def lora_scale(edit: BaseEdit) -> LatentsAt:
    """LoRA scale, as ConceptSliders (Gandikota et al. 2023) use it: one adapter, weaker or stronger.

    The adapter is our slider at strength 0, LoRA and offsets, scaled by 1 - s: wholly on, it keeps the source; off, it
    leaves the base model's edit. Scaled by s, our slider at strength 1 would be no slider: both its ends edit in full.
    """
    projector, transformer = edit.pipe.slider_projector, edit.pipe.transformer
    if projector is None:
        raise MissingSlider("LoRA scale needs the slider's own LoRA. Load a slider first.")
    with torch.no_grad():
        offsets = projector(torch.zeros(1, device=edit.text.pooled.device), edit.text.pooled)

    def latents_at(strength: float) -> Tensor:
        part = ModulationOffsets(*((1 - strength) * offset for offset in offsets))
        with offsets_attached(transformer, part, projector.config.place), lora_scaled(transformer, 1 - strength):
            return edit.sample(functools.partial(edit.velocity, text=edit.text, with_lora=True))

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


def by_morpher(morpher: Morpher) -> Method:
    """A morpher between the source and the base model's edit, as a method."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Picture]:
        edited = to_image(edited_picture(pipe, image, instruction, seed))
        return [to_picture(frame) for frame in morpher(pipe, image, edited, instruction, strengths, seed)]

    return method


BASELINES: dict[str, Method] = {
    "pixel-cross-fade": pixel_cross_fade,
    "latent-cross-fade": latent_cross_fade,
    "lora-scale": lora_scale,
    "cfg-scale": cfg_scale,
    "attention-reweighting": attention_reweighting,
    "velo-edit": velo_edit,
    "flow-slider": flow_slider,
    "ada-or": ada_or,
}
