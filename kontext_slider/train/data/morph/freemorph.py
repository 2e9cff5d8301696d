"""FreeMorph (Cao et al. 2025, arXiv 2507.01953): a morph by Stable Diffusion 2.1 without training.

Written from the paper's description: both pictures' latents are interpolated on the sphere; all of them together are
walked up to noise by DDIM inversion and down again; on the way the self-attention of those in between is led by the
ends (`shared_attention`), less and less while detail is added; and their noise gets fresh fine detail. Two things
differ: the paper describes both pictures by a captioner, here the words are "" and the instruction; and there is no
classifier-free guidance, so that the ends come back as they were.

Legend: J rows (source, pictures in between, edit); latents z (J, C, h, w); s strengths (J,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from kontext_slider.errors import CheckpointError
from kontext_slider.images import working_size
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.morph.flow_model import check_pair
from kontext_slider.train.data.morph.shared_attention import Gaze, Look, shared_attention
from kontext_slider.train.data.morph.sphere import slerp_whole

STEPS = 50
# What the rows in between look at, and from which share of the way on: up to noise, and down from it.
UP = ((0.0, Look.SELF), (0.3, Look.PRIOR), (0.6, Look.TREND))
DOWN = ((0.0, Look.TREND), (0.4, Look.BLEND), (0.8, Look.SELF))
DETAIL_FROM = 0.5  # of the highest frequency: finer detail of the noise is drawn anew
DETAIL_SHARE = 0.3  # how much of it

Schedule = tuple[tuple[float, Look], ...]


class FreeMorph:
    """A `registry.Morpher` that needs no editing model.

    Args:
        model: Stable Diffusion with any DDIM-compatible scheduler.
        steps: up, and as many down.
    """

    def __init__(self, model: StableDiffusionPipeline, steps: int = STEPS):
        self.model, self.steps = model, steps
        self.down = DDIMScheduler.from_config(model.scheduler.config, clip_sample=False, set_alpha_to_one=False)
        self.up = DDIMInverseScheduler.from_config(self.down.config)

    @classmethod
    def from_pretrained(cls, name: str, device: torch.device, dtype: torch.dtype) -> FreeMorph:
        """From a folder or a hub id. CheckpointError where that is no Stable Diffusion, or cannot be fetched."""
        try:
            model = StableDiffusionPipeline.from_pretrained(
                name, dtype=dtype, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{name!r} cannot be loaded as Stable Diffusion ({error}). Name a folder or a hub id with "
                "--freemorph-model, or choose another --morpher."
            ) from error
        return cls(model.to(device))

    @torch.no_grad()
    def __call__(
        self,
        pipe: KontextSliderPipeline,
        source: Image.Image,
        edited: Image.Image,
        instruction: str,
        strengths: Sequence[float],
        seed: int,
    ) -> list[Image.Image]:
        check_pair(source, edited)
        between = [strength for strength in strengths if 0 < strength < 1]
        s = torch.tensor([0.0, *between, 1.0], device=self.model.device)  # the ends lead, whatever was asked for
        words = self.words(instruction, s)
        ends = self.encode([source, edited])
        z = slerp_whole(ends[:1], ends[1:], s)
        gaze = Gaze(s)
        with shared_attention(self.model.unet, gaze):
            z = self.walk(self.up, UP, z, words, gaze)
            z[1:-1] = with_fresh_detail(z[1:-1], torch.Generator().manual_seed(seed))
            z = self.walk(self.down, DOWN, z, words, gaze)
        frames = {
            strength: self.decode(row, source.size) for strength, row in zip((0, *between, 1), z.split(1), strict=True)
        }
        return [frames[strength] for strength in strengths]

    def walk(self, scheduler, schedule: Schedule, z: Tensor, words: Tensor, gaze: Gaze) -> Tensor:
        """All steps of a scheduler, with the gaze that belongs to the share of the way gone."""
        scheduler.set_timesteps(self.steps, device=z.device)
        for number, timestep in enumerate(scheduler.timesteps):
            gaze.look = look_at(schedule, number / len(scheduler.timesteps))
            noise = self.model.unet(z, timestep, encoder_hidden_states=words).sample
            z = scheduler.step(noise, timestep, z).prev_sample
        return z

    def words(self, instruction: str, s: Tensor) -> Tensor:
        """Text embeddings from no words to the instruction, (J, T, D)."""
        ends = [
            self.model.encode_prompt(text, self.model.device, 1, do_classifier_free_guidance=False)[0]
            for text in ("", instruction)
        ]
        return torch.lerp(ends[0], ends[1], s[:, None, None].to(ends[0].dtype))

    def encode(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Latents (n, C, h, w) at the model's native area."""
        unet, vae, factor = self.model.unet, self.model.vae, self.model.vae_scale_factor
        multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
        width, height = working_size(pictures[0].size, unet.config.sample_size * factor, multiple)
        pixels = self.model.image_processor.preprocess(list(pictures), height, width).to(vae.device, vae.dtype)
        return vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor

    def decode(self, z: Tensor, size: tuple[int, int]) -> Image.Image:
        """A picture of `size` (width, height)."""
        pixels = self.model.vae.decode(z.to(self.model.vae.dtype) / self.model.vae.config.scaling_factor).sample
        return self.model.image_processor.postprocess(pixels)[0].resize(size, Image.Resampling.LANCZOS)


def look_at(schedule: Schedule, way: float) -> Look:
    """The last entry that has begun at a share of the way."""
    return [look for begin, look in schedule if begin <= way][-1]


def with_fresh_detail(z: Tensor, generator: torch.Generator) -> Tensor:
    """Mix noise into the frequencies above DETAIL_FROM, one noise for all rows; the latents' scale there is kept."""
    height, width = z.shape[-2:]
    noise = torch.randn(1, *z.shape[1:], generator=generator).to(z.device)
    rows, columns = torch.fft.fftfreq(height, device=z.device), torch.fft.fftfreq(width, device=z.device)
    fine = (torch.hypot(rows[:, None], columns[None]) > DETAIL_FROM * 0.5).float()
    detail = torch.fft.ifft2(torch.fft.fft2(z.float()) * fine).real
    fresh = torch.fft.ifft2(torch.fft.fft2(noise.float()) * fine).real
    kept = (1 - DETAIL_SHARE**2) ** 0.5  # variances add up
    return (z.float() + (kept - 1) * detail + DETAIL_SHARE * fresh).to(z.dtype)
