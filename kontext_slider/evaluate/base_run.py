"""One edit of the base model, encoded once, as every rival needs it: velocities under any instruction and Euler steps
through any field of velocities.

Legend: L target tokens, C channels of a packed token; latents and velocities (1, L, C); sigma in (0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from kontext_slider.encoding import decode
from kontext_slider.engine.denoise import (
    Conditioning,
    TextEncoding,
    draw_noise,
    encode_source,
    encode_text,
    prepare_scheduler,
)
from kontext_slider.lora import slider_lora
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.paint import Picture

Method = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list[Picture]]
Velocity = Callable[[Tensor, float], Tensor]  # (latents, sigma) -> velocity


def base_edit(pipe: KontextSliderPipeline, image: Image.Image, instruction: str, seed: int) -> Picture:
    """The base model's own edit, without slider, (H, W, 3)."""
    run = BaseRun(pipe, image, instruction, seed)
    return run.picture(run.sample(run.velocity_of(run.text)))


class BaseRun:
    """One edit on the pipeline's own steps, guidance and, for `seed`, noise."""

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

    def velocity_of(self, text: TextEncoding, attention: dict | None = None, with_lora: bool = False) -> Velocity:
        """The model's velocity under an instruction; plain, or with the slider's LoRA as it is scaled at the call.

        The plain one at the noise, from where every strength starts, is computed once."""
        at_noise: dict[float, Tensor] = {}

        def velocity(z: Tensor, sigma: float) -> Tensor:
            if with_lora or z is not self.edit.noise:
                return ask(z, sigma)
            if sigma not in at_noise:
                at_noise[sigma] = ask(z, sigma)
            return at_noise[sigma]

        @torch.no_grad()
        def ask(z: Tensor, sigma: float) -> Tensor:
            with slider_lora(self.pipe.transformer, on=with_lora):
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
        """Packed latents (1, L, C) -> (H, W, 3)."""
        return decode(self.pipe, latents, self.size)[0].permute(1, 2, 0).float().cpu().numpy()
