"""One edit of the base model, its slider off, encoded once: velocities under any text, and Euler steps through any
field of velocities. Baselines are made of it.

Legend: B rows of a batch, L target tokens, S source tokens, C channels of a packed token; latents and velocities
(B, L, C); sigma, the noise level, in (0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor

from .base import Conditioning, TextEncoding, base_of
from .lora import slider_lora
from .metrics import Picture
from .pipeline import KontextSliderPipeline

Velocity = Callable[[Tensor, float], Tensor]  # (latents, sigma) -> velocity


class BaseEdit:
    """One source and one instruction, on the pipeline's own settings.

    Args:
        image: with sides that are multiples of the packing.
        seed: of the noise.
        steps: of a render; None: the base model's own.
    """

    def __init__(
        self, pipe: KontextSliderPipeline, image: Image.Image, instruction: str, seed: int, steps: int | None = None
    ):
        self.pipe, self.size, self.seed, self.base = pipe, image.size, seed, base_of(pipe)
        self.instruction, self.steps = instruction, steps or pipe.defaults.steps_of_base
        self.text = self.encode_text(instruction)
        self.dtype = self.text.embeds.dtype
        self.source = self.base.encode_source(image, self.dtype)
        self.noise = self.base.draw_noise(image.size, seed, self.dtype, pipe.defaults.noise_scale)
        self.guidance = self.base.guidance(pipe.defaults.guidance)

    def encode_text(self, text: str) -> TextEncoding:
        return self.base.encode_text(text, self.pipe.defaults.max_sequence_length)

    @torch.no_grad()
    def velocity(
        self,
        z: Tensor,
        sigma: float,
        text: TextEncoding,
        with_lora: bool = False,
        guidance: float | None = None,
    ) -> Tensor:
        """The model's velocity at z, in z's precision.

        Args:
            text: of one row, or of B.
            with_lora: the slider's LoRA is on, as it is scaled at the call.
            guidance: the distilled one, of transformers with such an input; None: the pipeline's own.
        """
        embedded = self.guidance if guidance is None else self.base.guidance(guidance)
        edit = Conditioning(text, self.source, self.noise, embedded)
        time = torch.tensor(sigma, dtype=self.dtype, device=z.device)
        with slider_lora(self.pipe.transformer, on=with_lora):
            return self.base.velocity(self.pipe.transformer, z.to(self.dtype), time, edit).to(z.dtype)

    def velocity_under(self, text: TextEncoding) -> Velocity:
        """The velocity under a text. At the noise, where every strength starts, it is computed once."""
        at_noise = cache(lambda sigma: self.velocity(self.noise.latents, sigma, text))
        return lambda z, sigma: at_noise(sigma) if z is self.noise.latents else self.velocity(z, sigma, text)

    def velocity_to_source(self, z: Tensor, sigma: float) -> Tensor:
        """The velocity of the straight path that ends at the source."""
        return (z - self.source.latents) / sigma

    def sigmas(self) -> list[float]:
        """The noise levels of a render, from 1 to 0."""
        return self.base.schedule(self.steps, self.noise.latents.shape[1]).sigmas.tolist()

    def sample(self, velocity: Velocity) -> Tensor:
        """Euler steps from the noise along a field."""
        z = self.noise.latents
        for sigma, following in pairwise(self.sigmas()):
            z = z + (following - sigma) * velocity(z, sigma)
        return z

    @torch.no_grad()
    def picture(self, latents: Tensor) -> Picture:
        """Packed latents (1, L, C) -> (H, W, 3)."""
        pixels = self.base.decode(latents.to(self.dtype), self.size)
        return pixels[0].permute(1, 2, 0).float().cpu().numpy()


def edited_picture(pipe: KontextSliderPipeline, image: Image.Image, instruction: str, seed: int) -> Picture:
    """The base model's own edit, without slider, (H, W, 3)."""
    edit = BaseEdit(pipe, image, instruction, seed)
    return edit.picture(edit.sample(edit.velocity_under(edit.text)))


@torch.no_grad()
def coded(pipe: KontextSliderPipeline, picture: Picture) -> Picture:
    """What the codec alone leaves of a picture, (H, W, 3), not clipped."""
    pixels = torch.from_numpy(picture.transpose(2, 0, 1))[None]
    return base_of(pipe).round_trip(pixels)[0].permute(1, 2, 0).float().cpu().numpy()
