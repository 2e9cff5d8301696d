"""FreeMorph (Cao et al. 2025, arXiv 2507.01953): a morph by Stable Diffusion 2.1 without training.

Written from the method's description and its published constants. The latents of both pictures are interpolated on
the sphere; all of them together are walked up to noise by DDIM inversion, and down again with guidance. On the way
rows attend to each other, in self- and cross-attention ("guidance-aware spherical interpolation" and "step-oriented
variation trend"): up, first to themselves, then all get the mean answer, then that of the two ends; down, first to
the ends by their strength, then to the ends and themselves, at last to themselves. Between the walks, the high
frequencies of the rows in between are replaced by those of one draw of noise.

As the mean answer goes to the ends too, a frame depends on the other strengths of the call, and the ends do not come
back as they were: both belong to the method. The paper blends linearly by strength, its code by the quantile of a
beta distribution; here it is the code's. The codec's mean is taken, where its code draws a sample.

Legend: J rows (source, pictures in between, edit); latents z (J, C, h, w); a shares of the last end (J,); N tokens,
M tokens attended to, H heads, d width of a head; queries (J, H, N, d), keys and values (J, H, M, d).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from PIL.Image import Image
from scipy.stats import beta
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from kontext_slider.morph.captions import Captions
from kontext_slider.morph.fade import check_pair
from kontext_slider.morph.stable_diffusion import StableDiffusion, slerp

STEPS = 50
WALKED = 0.8  # share of the steps that is walked: so much of the way to noise
ROUNDS = 5  # of the fixed point, per inversion step
GUIDANCE = 7.5
CONCENTRATION = 20.0  # both parameters of the beta distribution
UP = (0.3, 0.6)  # shares of all steps after which rows attend to the mean, and to both ends
DOWN = (0.2, 0.6)  # shares of the walked steps until which rows attend to the ends, and to the ends and themselves
KEPT = 42 / 48  # of the highest frequency, along each axis: what is below is kept

Attending = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (queries, keys, values, a) -> answers (J, H, N, d)


def to_self(query: Tensor, key: Tensor, value: Tensor, a: Tensor) -> Tensor:
    """Plain attention."""
    return attend(query, key, value)


def to_mean(query: Tensor, key: Tensor, value: Tensor, a: Tensor) -> Tensor:
    """The mean of all rows' answers, for every row."""
    return attend(query, key, value).mean(0, keepdim=True).expand_as(query)


def to_ends(query: Tensor, key: Tensor, value: Tensor, a: Tensor) -> Tensor:
    """(1 - a) Attn(Q; K_first, V_first) + a Attn(Q; K_last, V_last)."""
    shape = len(query), -1, -1, -1
    first, last = (attend(query, key[[end]].expand(shape), value[[end]].expand(shape)) for end in (0, -1))
    return torch.lerp(first, last, a[:, None, None, None])


def to_both_ends(query: Tensor, key: Tensor, value: Tensor, a: Tensor) -> Tensor:
    """Both ends with the same weight, whatever a."""
    return to_ends(query, key, value, torch.full_like(a, 0.5))


def to_ends_and_self(query: Tensor, key: Tensor, value: Tensor, a: Tensor) -> Tensor:
    """As `to_ends`, each row's own keys and values beside those of the end."""

    def beside(x: Tensor, end: int) -> Tensor:  # (J, H, 2 M, d)
        return torch.cat([x, x[[end]].expand_as(x)], dim=2)

    first, last = (attend(query, beside(key, end), beside(value, end)) for end in (0, -1))
    return torch.lerp(first, last, a[:, None, None, None])


def attending_up(step: int, steps: int) -> Attending:
    """At a step of the inversion; `steps` of a whole walk."""
    begin, end = (int(share * steps) for share in UP)
    if begin < step < end:
        return to_mean
    return to_both_ends if step > end else to_self


def attending_down(step: int, walked: int) -> Attending:
    """At one of the steps that are walked down, in the pass with text."""
    begin, end = (int(share * walked) for share in DOWN)
    if step < begin:
        return to_ends
    return to_ends_and_self if step < end else to_self


@dataclass(eq=False)
class SharedAttention:
    """Attention across the rows of a batch, a processor for a UNet's transformer blocks; the caller sets `attending`
    between two passes."""

    a: Tensor  # (J,), 0 first and 1 last
    attending: Attending = to_self

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args, **kwargs
    ) -> Tensor:
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(tokens).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, tokens in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))
        )
        answers = self.attending(query, key, value, self.a).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](answers))


@contextmanager
def attention_shared(unet: UNet2DConditionModel, shared: SharedAttention) -> Iterator[None]:
    """All attention of the UNet is `shared` inside the block; its own processors are put back afterwards."""
    before = unet.attn_processors
    unet.set_attn_processor(dict.fromkeys(before, shared))
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class FreeMorph:
    """A morpher that needs no editing model.

    Args:
        sd: the paper's is Stable Diffusion 2.1, 768 pixels, of 50 steps.
        captions: of the two pictures.
        guidance: classifier-free, on the way down.
    """

    def __init__(self, sd: StableDiffusion, captions: Captions, guidance: float = GUIDANCE):
        self.sd, self.captions, self.guidance = sd, captions, guidance
        self.walked = int(sd.steps * WALKED)

    @torch.no_grad()
    def __call__(
        self, pipe: object, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Image]:
        check_pair(source, edited)
        between = sorted({strength for strength in strengths if 0 < strength < 1})
        rows = [0.0, *between, 1.0]  # the ends lead, whatever the strengths
        s = torch.tensor(rows, device=self.sd.device)
        texts = [self.sd.encode_text(text) for text in self.captions(source, edited, instruction)]
        text = torch.lerp(texts[0], texts[1], s[:, None, None])
        ends = self.sd.encode([source, edited])
        shared = SharedAttention(torch.tensor(beta.ppf(rows, CONCENTRATION, CONCENTRATION)).to(s))
        with attention_shared(self.sd.model.unet, shared):
            z = self.invert(slerp(ends[:1], ends[1:], s), text, shared)
            z[1:-1] = with_fresh_detail(z[1:-1], torch.Generator().manual_seed(seed))
            z = self.denoise(z, text, shared)
        frames = dict(zip(rows, z.split(1), strict=True))
        return [self.sd.decode(frames[strength], source.size) for strength in strengths]

    def invert(self, z: Tensor, text: Tensor, shared: SharedAttention) -> Tensor:
        """Up to noise, without guidance."""

        def predict(z: Tensor, timestep: Tensor, step: int) -> Tensor:
            shared.attending = attending_up(step, self.sd.steps)
            return self.sd.model.unet(z, timestep, text).sample

        return self.sd.invert(z, predict, ROUNDS, self.walked)

    def denoise(self, z: Tensor, text: Tensor, shared: SharedAttention) -> Tensor:
        """Down from noise, with guidance away from no words, which attend to themselves."""
        nothing = self.sd.encode_text("").expand_as(text)

        def predict(z: Tensor, timestep: Tensor, step: int) -> Tensor:
            shared.attending = attending_down(step, self.walked)
            conditional = self.sd.model.unet(z, timestep, text).sample
            shared.attending = to_self
            plain = self.sd.model.unet(z, timestep, nothing).sample
            return torch.lerp(plain, conditional, self.guidance)

        return self.sd.denoise(z, predict, self.walked)


def with_fresh_detail(z: Tensor, generator: torch.Generator) -> Tensor:
    """Latents whose spectrum outside a central square is that of noise, the same for all rows."""
    height, width = z.shape[-2:]
    noise = torch.randn(1, *z.shape[1:], generator=generator).to(z)
    kept = [torch.fft.fftfreq(side, device=z.device).abs() <= KEPT / 2 for side in (height, width)]
    low = kept[0][:, None] & kept[1]
    return torch.fft.ifft2(torch.where(low, torch.fft.fft2(z), torch.fft.fft2(noise))).real
