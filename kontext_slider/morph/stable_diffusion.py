"""Stable Diffusion as FreeMorph and DiffMorpher use it: pictures to latents and back, DDIM in both directions.

Everything is in float32. In bfloat16 the rounding errors of a hundred steps and more add up: in an audit the ends of a
morph came back 8 dB worse.

Legend: latents z (J, C, h, w); text (J, T, D); J rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionPipeline
from PIL.Image import Image, Resampling
from torch import Tensor

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.images import working_size

PARALLEL = 1e-4  # the sine of an angle below which a great circle is taken for a line
Predict = Callable[[Tensor, Tensor, int], Tensor]  # (latents, timestep, number of the step from 0) -> UNet's answer


class StableDiffusion:
    """A Stable Diffusion pipeline and its DDIM schedules.

    Args:
        model: in float32 (InvalidInput otherwise), with any DDIM-compatible scheduler.
        steps: of a whole walk.
    """

    def __init__(self, model: StableDiffusionPipeline, steps: int):
        if model.unet.dtype != torch.float32 or model.vae.dtype != torch.float32:
            raise InvalidInput(
                f"Morphs need Stable Diffusion in float32, not {model.unet.dtype}: the ends would be lost."
            )
        self.model, self.steps, self.device = model, steps, model.device
        settings = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 0, "timestep_spacing": "leading"}
        self.down = DDIMScheduler.from_config(model.scheduler.config, **settings)
        self.up = DDIMInverseScheduler.from_config(self.down.config, prediction_type="epsilon")
        for scheduler in (self.down, self.up):
            scheduler.set_timesteps(steps, device=self.device)

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device, steps: int) -> StableDiffusion:
        """From a folder or a hub id. CheckpointError where that is no Stable Diffusion, or cannot be fetched."""
        try:
            model = StableDiffusionPipeline.from_pretrained(
                name, dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{name!r} cannot be loaded as Stable Diffusion ({error}). Name a folder or a hub id that has it."
            ) from error
        model.set_progress_bar_config(disable=True)
        return cls(model.to(device), steps)

    @torch.no_grad()
    def invert(self, z: Tensor, predict: Predict, rounds: int = 1, steps: int | None = None) -> Tensor:
        """Walk from a picture's latents up to noise; `down` with the same answers walks back.

        A step from z_t to z_t+1 solves z_t = DDIM(z_t+1, predict(z_t+1)) by fixed-point rounds. The velocity of a
        v-prediction becomes noise at z_t+1, where it was predicted; diffusers' inverse scheduler takes the level of
        z_t, and no number of rounds comes back.

        Args:
            rounds: 1 is plain DDIM inversion.
            steps: the first so many of the schedule; None: all."""
        for number, timestep in enumerate(self.up.timesteps[:steps]):
            following = z
            for _ in range(rounds):
                noise = self._noise(following, predict(following, timestep, number), timestep)
                following = self.up.step(noise, timestep, z).prev_sample
            z = following
        return z

    def _noise(self, z: Tensor, answer: Tensor, timestep: Tensor) -> Tensor:
        """The noise in z by the UNet's answer."""
        if self.down.config.prediction_type == "epsilon":
            return answer
        level = self.down.alphas_cumprod[timestep]
        return level.sqrt() * answer + (1 - level).sqrt() * z

    @torch.no_grad()
    def denoise(self, z: Tensor, predict: Predict, steps: int | None = None) -> Tensor:
        """Walk down to a picture's latents, by the last `steps` of the schedule; None: all."""
        for number, timestep in enumerate(self.down.timesteps[-(steps or self.steps) :]):
            z = self.down.step(predict(z, timestep, number), timestep, z).prev_sample
        return z

    @torch.no_grad()
    def encode_text(self, text: str) -> Tensor:
        """(1, T, D)."""
        return self.model.encode_prompt(text, self.device, 1, do_classifier_free_guidance=False)[0]

    @torch.no_grad()
    def encode(self, pictures: Sequence[Image]) -> Tensor:
        """The codec's most likely latents at the model's native area."""
        return self.posterior(pictures).mode() * self.model.vae.config.scaling_factor

    def posterior(self, pictures: Sequence[Image]):
        """The codec's distribution of latents, not yet scaled."""
        unet, vae, factor = self.model.unet, self.model.vae, self.model.vae_scale_factor
        multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
        width, height = working_size(pictures[0].size, unet.config.sample_size * factor, multiple)
        pixels = self.model.image_processor.preprocess(list(pictures), height, width).to(self.device)
        return vae.encode(pixels).latent_dist

    @torch.no_grad()
    def decode(self, z: Tensor, size: tuple[int, int]) -> Image:
        """A picture of `size` (width, height)."""
        pixels = self.model.vae.decode(z / self.model.vae.config.scaling_factor).sample
        return self.model.image_processor.postprocess(pixels)[0].resize(size, Resampling.LANCZOS)


def slerp(first: Tensor, last: Tensor, s: Tensor) -> Tensor:
    """Latents (1, ...) on the great circle from one to another, by strengths (J,) -> (J, ...); a line between parallel
    ones."""
    s = s.view(-1, *[1] * (first.ndim - 1))
    cosine = torch.nn.functional.cosine_similarity(first.flatten(1), last.flatten(1))
    angle = torch.arccos(cosine.clamp(-1, 1))
    if torch.sin(angle) < PARALLEL:
        return torch.lerp(first, last, s)
    return (torch.sin((1 - s) * angle) * first + torch.sin(s * angle) * last) / torch.sin(angle)
