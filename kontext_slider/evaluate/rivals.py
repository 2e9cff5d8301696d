"""Other ways to get a slider out of the same base model, behind one signature, to be measured beside ours.

A method is `(pipe, image, instruction, strengths, seed) -> frames`. None of the rivals is trained; all but ours run the
base model without the slider. Sources: the method's paper, beside each; all on the same noise, steps and guidance.

Legend: L target tokens, C channels of a packed token; latents and velocities (1, L, C); sigma in (0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kontext_slider.engine.denoise import (
    Conditioning,
    TextEncoding,
    decode,
    draw_noise,
    encode_source,
    encode_text,
    prepare_scheduler,
)
from kontext_slider.lora import slider_lora
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.pocket.world import Picture

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list[Picture]]
Velocity = Callable[[Tensor, float], Tensor]  # (latents, sigma) -> velocity


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
    full = base_edit(pipe, image, instruction, seed)
    source = np.asarray(image, dtype=np.float32) / 255
    return [(1 - s) * source + s * full for s in strengths]


def latent_cross_fade(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """Source and full edit, mixed as latents."""
    run = _Run(pipe, image, instruction, seed)
    full = run.sample(run.velocity_of(run.text))
    return [run.picture((1 - s) * run.edit.source.latents + s * full) for s in strengths]


def cfg_scale(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """Classifier-free guidance from the empty instruction (0) to the instruction (1)."""
    run = _Run(pipe, image, instruction, seed)
    with_text, without = run.velocity_of(run.text), run.velocity_of(run.encode(""))

    def at(strength: float) -> Velocity:
        return lambda z, sigma: torch.lerp(without(z, sigma), with_text(z, sigma), strength)

    return [run.picture(run.sample(at(s))) for s in strengths]


def attention_reweighting(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """Image tokens' attention to text tokens multiplied by the strength, before normalisation."""
    run = _Run(pipe, image, instruction, seed)
    num_text, num_tokens = run.text.embeds.shape[1], 2 * run.edit.noise.shape[1]

    def at(strength: float) -> Velocity:
        bias = torch.zeros(num_text + num_tokens, num_text + num_tokens)
        bias[num_text:, :num_text] = math.log(max(strength, 1e-6))
        return run.velocity_of(run.text, {"attention_mask": bias.to(run.edit.noise)})

    return [run.picture(run.sample(at(s))) for s in strengths]


def velo_edit(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """VeloEdit (arXiv 2603.13388): in the first step, keep the source's velocity where both agree, else mix."""
    run = _Run(pipe, image, instruction, seed)
    model = run.velocity_of(run.text)

    def at(strength: float) -> Velocity:
        def velocity(z: Tensor, sigma: float) -> Tensor:
            v = model(z, sigma)
            if sigma < 1:
                return v
            keep = run.keep(z, sigma)
            agreement = keep.abs() / (keep.abs() + (v - keep).abs()).clamp_min(1e-6)
            return torch.where(agreement >= 0.8, keep, torch.lerp(keep, v, strength))

        return velocity

    return [run.picture(run.sample(at(s))) for s in strengths]


def flow_slider(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """FlowSlider (arXiv 2604.02088) carried over to Kontext: fidelity and steering velocities between two noisy
    pictures, the empty instruction in the place of the source's caption."""
    run = _Run(pipe, image, instruction, seed)
    with_text, without = run.velocity_of(run.text), run.velocity_of(run.encode(""))
    source = run.edit.source.latents

    def at(strength: float) -> Tensor:
        generator, z = torch.Generator().manual_seed(seed), source
        for sigma, following in run.intervals():
            noise = torch.randn(source.shape, generator=generator).to(source)
            a = (1 - sigma) * source + sigma * noise
            b = z + a - source
            base = without(b, sigma)
            step = base - without(a, sigma) + strength * (with_text(b, sigma) - base)
            z = z + (following - sigma) * step
        return z

    return [run.picture(at(s)) for s in strengths]


def ada_or(
    pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
) -> list[Picture]:
    """AdaOr-like mixing (arXiv 2602.03826): the guidance starts from the source at 0, from no instruction at 1."""
    run = _Run(pipe, image, instruction, seed)
    with_text, without = run.velocity_of(run.text), run.velocity_of(run.encode(""))

    def at(strength: float) -> Velocity:
        def velocity(z: Tensor, sigma: float) -> Tensor:
            empty = without(z, sigma)
            origin = torch.lerp(run.keep(z, sigma), empty, math.sqrt(strength))
            return origin + strength * (with_text(z, sigma) - empty)

        return velocity

    return [run.picture(run.sample(at(s))) for s in strengths]


RIVALS: dict[str, Method] = {
    "pixel-cross-fade": pixel_cross_fade,
    "latent-cross-fade": latent_cross_fade,
    "cfg-scale": cfg_scale,
    "attention-reweighting": attention_reweighting,
    "velo-edit": velo_edit,
    "flow-slider": flow_slider,
    "ada-or": ada_or,
}


def base_edit(pipe: KontextSliderPipeline, image: Image.Image, instruction: str, seed: int) -> Picture:
    """The base model's own edit, without slider, (H, W, 3)."""
    run = _Run(pipe, image, instruction, seed)
    return run.picture(run.sample(run.velocity_of(run.text)))


class _Run:
    """One edit of the base model, encoded once: velocities under any instruction, and Euler steps through any field."""

    def __init__(self, pipe: KontextSliderPipeline, image: Image.Image, instruction: str, seed: int):
        self.pipe, self.size = pipe, image.size
        self.text = self.encode(instruction)
        dtype = self.text.embeds.dtype
        source = encode_source(pipe, image, dtype)
        noise, noise_ids = draw_noise(pipe, image.size, seed, dtype)
        guidance = None
        if pipe.transformer.config.guidance_embeds:
            guidance = torch.full([1], pipe.defaults.guidance, device=noise.device)
        self.edit = Conditioning(self.text, source, noise, noise_ids, guidance)
        self.img_ids = torch.cat([noise_ids, source.ids])

    def encode(self, instruction: str) -> TextEncoding:
        return encode_text(self.pipe, instruction, self.pipe.defaults.max_sequence_length)

    def velocity_of(self, text: TextEncoding, attention: dict | None = None) -> Velocity:
        """The plain model's velocity under an instruction."""

        @torch.no_grad()
        def velocity(z: Tensor, sigma: float) -> Tensor:
            with slider_lora(self.pipe.transformer, on=False):
                return self.pipe.transformer(
                    hidden_states=torch.cat([z, self.edit.source.latents], dim=1),
                    timestep=torch.full((1,), sigma, dtype=z.dtype, device=z.device),
                    guidance=self.edit.guidance,
                    pooled_projections=text.pooled,
                    encoder_hidden_states=text.embeds,
                    txt_ids=text.ids,
                    img_ids=self.img_ids,
                    joint_attention_kwargs=attention or {},
                    return_dict=False,
                )[0][:, : z.shape[1]]

        return velocity

    def keep(self, z: Tensor, sigma: float) -> Tensor:
        """The velocity that leads back to the source."""
        return (z - self.edit.source.latents) / sigma

    def intervals(self) -> list[tuple[float, float]]:
        """(sigma, next sigma) of all steps, as the pipeline would take them."""
        device = self.edit.noise.device
        scheduler = prepare_scheduler(self.pipe, self.pipe.defaults.steps, self.edit.noise.shape[1], device)
        sigmas = scheduler.sigmas.tolist()
        return list(zip(sigmas[:-1], sigmas[1:], strict=True))

    def sample(self, velocity: Velocity) -> Tensor:
        """Euler steps from the noise along a field."""
        z = self.edit.noise
        for sigma, following in self.intervals():
            z = z + (following - sigma) * velocity(z, sigma)
        return z

    @torch.no_grad()
    def picture(self, latents: Tensor) -> Picture:
        frame = decode(self.pipe, latents, self.size)
        return np.asarray(frame, dtype=np.float32) / np.float32(255)
