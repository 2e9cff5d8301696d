"""FreeMorph (Cao et al. 2025, arXiv 2507.01953): a morph by Stable Diffusion 2.1 without training.

Written from the paper's description: both pictures' latents are interpolated on the sphere; all of them together are
walked up to noise by DDIM inversion and down again; on the way the self-attention of those in between is led by the
ends (`SharedAttention`), less and less while detail is added; and their noise gets fresh fine detail. Two things
differ: the paper describes both pictures by a captioner, here the words are "" and the instruction; and there is no
classifier-free guidance, so that the ends come back as they were.

Legend: J rows (source, pictures in between, edit); latents z (J, C, h, w); s strengths (J,); N tokens, h heads, d width
of a head; queries, keys and values (J, h, N, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from kontext_slider.errors import CheckpointError
from kontext_slider.images import working_size
from kontext_slider.train.data.morph.fade import check_pair

STEPS = 50
TINY = 1e-4
DETAIL_FROM = 0.5  # of the highest frequency: finer detail of the noise is drawn anew
DETAIL_SHARE = 0.3  # how much of it


# What the rows in between attend to: (query of the rows, keys and values of all rows, s of the rows) -> their answers
Between = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def to_self(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    """Each row to itself."""
    return attend(query, key[1:-1], value[1:-1])


def to_mean(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    """To the mean of all rows' keys and values."""
    return attend(query, key.mean(0).expand_as(query), value.mean(0).expand_as(query))


def to_blend(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    """To the ends' keys and values, blended on the sphere by strength."""
    return attend(query, slerp(key[:1], key[-1:], s), slerp(value[:1], value[-1:], s))


def to_both(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    """To either end by itself, the two answers mixed by strength."""
    first, last = (attend(query, key[end].expand_as(query), value[end].expand_as(query)) for end in (0, -1))
    return torch.lerp(first, last, s)


# From which share of the steps on the rows in between attend to what: up to noise, and down from it.
Schedule = tuple[tuple[float, Between], ...]
UP: Schedule = ((0.0, to_self), (0.3, to_mean), (0.6, to_both))
DOWN: Schedule = ((0.0, to_both), (0.4, to_blend), (0.8, to_self))


@dataclass(eq=False)
class SharedAttention:
    """Self-attention across the rows of a batch, a processor for a UNet's transformer blocks; the caller sets `between`
    between two steps."""

    strengths: Tensor  # (J,), 0 first and 1 last
    between: Between = to_self

    def __call__(self, attn: Attention, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        query, key, value = (
            layer(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer in (attn.to_q, attn.to_k, attn.to_v)
        )
        answers = self.attend(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](answers))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries, keys and values -> the answers of all rows, (J, h, N, d)."""
        if len(query) < 3:
            return attend(query, key, value)
        s = self.strengths[1:-1, None, None, None].to(query.dtype)
        first, last = (attend(query[end], key[end], value[end]) for end in ([0], [-1]))
        return torch.cat([first, self.between(query[1:-1], key, value, s), last])


@contextmanager
def attention_shared(unet: UNet2DConditionModel, shared: SharedAttention) -> Iterator[None]:
    """All self-attention of the UNet is `shared` inside the block; its own processors are put back afterwards."""
    before = unet.attn_processors
    replaced = {name: shared for name in before if name.endswith("attn1.processor")}
    unet.set_attn_processor({**before, **replaced})
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class FreeMorph:
    """A morpher that needs no editing model.

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
        self, pipe: object, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Image]:
        check_pair(source, edited)
        between = [strength for strength in strengths if 0 < strength < 1]
        s = torch.tensor([0.0, *between, 1.0], device=self.model.device)  # the ends lead, whatever the strengths
        words = self.words(instruction, s)
        ends = self.encode([source, edited])
        z = slerp_whole(ends[:1], ends[1:], s)
        shared = SharedAttention(s)
        with attention_shared(self.model.unet, shared):
            z = self.walk(self.up, UP, z, words, shared)
            z[1:-1] = with_fresh_detail(z[1:-1], torch.Generator().manual_seed(seed))
            z = self.walk(self.down, DOWN, z, words, shared)
        frames = dict(zip((0, *between, 1), z.split(1), strict=True))
        return [self.decode(frames[strength], source.size) for strength in strengths]

    def walk(self, scheduler, schedule: Schedule, z: Tensor, words: Tensor, shared: SharedAttention) -> Tensor:
        """All steps of a scheduler, the rows in between attending as the schedule has it."""
        scheduler.set_timesteps(self.steps, device=z.device)
        for number, timestep in enumerate(scheduler.timesteps):
            shared.between = between_at(schedule, number / len(scheduler.timesteps))
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

    def encode(self, pictures: Sequence[Image]) -> Tensor:
        """Latents (n, C, h, w) at the model's native area."""
        unet, vae, factor = self.model.unet, self.model.vae, self.model.vae_scale_factor
        multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
        width, height = working_size(pictures[0].size, unet.config.sample_size * factor, multiple)
        pixels = self.model.image_processor.preprocess(list(pictures), height, width).to(vae.device, vae.dtype)
        return vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor

    def decode(self, z: Tensor, size: tuple[int, int]) -> Image:
        """A picture of `size` (width, height)."""
        pixels = self.model.vae.decode(z.to(self.model.vae.dtype) / self.model.vae.config.scaling_factor).sample
        return self.model.image_processor.postprocess(pixels)[0].resize(size, Resampling.LANCZOS)


def between_at(schedule: Schedule, done: float) -> Between:
    """The last entry that has begun at a share of the steps."""
    return [between for begin, between in schedule if begin <= done][-1]


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


def slerp(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """From a to b on great circles of their last axis, by strengths that broadcast; lines where these are parallel."""
    cosine = torch.nn.functional.cosine_similarity(a.float(), b.float(), dim=-1)[..., None]
    angle = torch.arccos(cosine.clamp(-1, 1))
    sine, s = torch.sin(angle), s.float()
    on_circle = (torch.sin((1 - s) * angle) * a + torch.sin(s * angle) * b) / sine.clamp_min(TINY)
    return torch.where(sine < TINY, torch.lerp(a.float(), b.float(), s), on_circle).to(a.dtype)


def slerp_whole(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Whole latents (1, ...) on one great circle, by strengths (J,) -> (J, ...)."""
    flat = slerp(a.flatten(1), b.flatten(1), s[:, None])
    return flat.unflatten(1, a.shape[1:])
