"""DiffMorpher (Zhang et al. 2024, arXiv 2312.07409): a morph by Stable Diffusion and a LoRA for each picture.

Written from the method's description and its published constants. A LoRA is trained on each picture alone; with it the
picture is inverted by DDIM. A frame has the LoRAs' values and the texts' embeddings mixed linearly, its noise on the
great circle between the two with their mixed mean and deviation in every channel (AdaIN), no guidance; in the first
part of the steps its self-attention, in the UNet's up blocks, attends to the mix of what the ends attended to there.
Frames at even mixtures are then rendered again, at mixtures with even perceptual distances between them.

The steps are DDIM's, as in the paper; its code takes those of the model's own scheduler. A sweep has as many frames as
there are strengths, 0 and 1; pictures keep their aspect ratio, and LPIPS gets them in its own range.

Legend: latents z (1, C, h, w); a the share of the last end, 0 to 1; N tokens of width D.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from peft import LoraConfig
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import mse_loss

from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import Distance, Matrix
from kontext_slider.morph.captions import Captions
from kontext_slider.morph.fade import check_pair
from kontext_slider.morph.stable_diffusion import StableDiffusion, slerp

STEPS = 50
RANK, LORA_STEPS, RATE, DECAY = 16, 200, 2e-4, 1e-2  # of LoRA and AdamW
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
REPLACED = 0.6  # share of the steps in which frames attend to the ends
ADAPTER = "diff-morpher"


@dataclass(frozen=True)
class End:
    """What is known of one of the two pictures."""

    text: Tensor  # (1, T, D)
    lora: list[Tensor]
    noise: Tensor


@dataclass(eq=False)
class EndStates:
    """What self-attention attends to while the ends are rendered, kept to be mixed for the frames in between."""

    a: float = 0.0  # of the frame that is being rendered
    step: int = 0
    steps: int = 0  # so many from the first on are kept and mixed
    kept: dict[tuple[str, float, int], Tensor] = field(default_factory=dict)

    def seen_by(self, layer: str, hidden_states: Tensor) -> Tensor | None:
        """What a layer attends to in place of its own tokens (1, N, D); None: these."""
        if self.step >= self.steps:
            return None
        if self.a in (0, 1):
            self.kept[layer, self.a, self.step] = hidden_states.detach()
            return None
        return torch.lerp(self.kept[layer, 0.0, self.step], self.kept[layer, 1.0, self.step], self.a)


@dataclass(eq=False)
class EndsAttention:
    """A processor for one self-attention layer of a UNet, around the one that it had."""

    layer: str
    before: Any
    states: EndStates

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states=None, *args, **kwargs) -> Tensor:
        seen = self.states.seen_by(self.layer, hidden_states)
        return self.before(attn, hidden_states, seen, *args, **kwargs)


@contextmanager
def ends_attended(unet: UNet2DConditionModel, states: EndStates) -> Iterator[None]:
    """Self-attention of the UNet's up blocks follows `states` inside the block; its processors are put back."""
    before = unet.attn_processors
    replaced = {
        name: EndsAttention(name, processor, states)
        for name, processor in before.items()
        if name.startswith("up_blocks") and name.endswith("attn1.processor")
    }
    unet.set_attn_processor({**before, **replaced})
    try:
        yield
    finally:
        unet.set_attn_processor(before)


@contextmanager
def lora_attached(unet: UNet2DConditionModel, seed: int) -> Iterator[list[torch.nn.Parameter]]:
    """The values of a new LoRA on all attention of the UNet, which does nothing yet; it is gone afterwards. The global
    random state is left as it was."""
    with torch.random.fork_rng(devices=[unet.device] if unet.device.type == "cuda" else []):
        torch.manual_seed(seed)
        config = LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=list(TARGETS))
        unet.add_adapter(config, ADAPTER)
    try:
        yield [parameter for name, parameter in unet.named_parameters() if ADAPTER in name]
    finally:
        unet.unload_lora()


class DiffMorpher:
    """A morpher that needs no editing model; it trains for each pair.

    Args:
        sd: the paper's is Stable Diffusion 2.1-base, 512 pixels, of 50 steps.
        captions: of the two pictures.
        distance: LPIPS in the paper.
        lora_steps: of training, per picture.
    """

    def __init__(self, sd: StableDiffusion, captions: Captions, distance: Distance, lora_steps: int = LORA_STEPS):
        self.sd, self.captions, self.distance, self.lora_steps = sd, captions, distance, lora_steps

    def __call__(
        self, pipe: object, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list[Image]:
        check_pair(source, edited)
        texts = [self.sd.encode_text(text) for text in self.captions(source, edited, instruction)]
        unet, states = self.sd.model.unet, EndStates(steps=int(REPLACED * self.sd.steps))
        with lora_attached(unet, seed) as lora:
            fresh = values_of(lora)
            ends = [self.fit(lora, fresh, *pair, seed) for pair in zip((source, edited), texts, strict=True)]
            with ends_attended(unet, states):

                def frame(a: float) -> Image:
                    return self.sd.decode(self.latents(a, ends, lora, states), source.size)

                shown = {a: frame(a) for a in (0.0, 1.0)}  # first, as the others attend to them
                rows = sorted({0.0, *strengths, 1.0})
                even = [shown[a] if a in shown else frame(a) for a in rows]
                shares = respaced(rows, self.distance([to_picture(picture) for picture in even]))
                shown |= {s: frame(a) for s, a in zip(rows, shares, strict=True) if s not in shown}
        return [shown[s] for s in strengths]

    def fit(self, lora: list[torch.nn.Parameter], fresh: list[Tensor], picture: Image, text: Tensor, seed: int) -> End:
        """Train the LoRA from its `fresh` values on one picture, and invert the picture with it."""
        set_values(lora, fresh)
        with torch.enable_grad():
            self.train(lora, picture, text, torch.Generator().manual_seed(seed))
        noise = self.sd.invert(
            self.sd.encode([picture]), lambda z, timestep, step: self.sd.model.unet(z, timestep, text).sample
        )
        return End(text, values_of(lora), noise)

    def train(self, lora: list[torch.nn.Parameter], picture: Image, text: Tensor, draw: torch.Generator) -> None:
        """The diffusion loss on one picture, with its codec's noise, at timesteps that are drawn evenly."""
        unet, schedule, device = self.sd.model.unet, self.sd.down, self.sd.device
        with torch.no_grad():
            posterior = self.sd.posterior([picture])
        adam = torch.optim.AdamW(lora, RATE, weight_decay=DECAY)
        for _ in range(self.lora_steps):
            clean = posterior.sample(draw) * self.sd.model.vae.config.scaling_factor
            noise = torch.randn(clean.shape, generator=draw).to(device)
            timestep = torch.randint(schedule.config.num_train_timesteps, (1,), generator=draw).to(device)
            is_velocity = schedule.config.prediction_type == "v_prediction"
            target = schedule.get_velocity(clean, noise, timestep) if is_velocity else noise
            mse_loss(unet(schedule.add_noise(clean, noise, timestep), timestep, text).sample, target).backward()
            adam.step()
            adam.zero_grad()

    def latents(self, a: float, ends: Sequence[End], lora: list[torch.nn.Parameter], states: EndStates) -> Tensor:
        """A frame of the share a of the last end."""
        first, last = ends
        set_values(lora, [torch.lerp(*pair, a) for pair in zip(first.lora, last.lora, strict=True)])
        text = torch.lerp(first.text, last.text, a)
        states.a = a

        def predict(z: Tensor, timestep: Tensor, step: int) -> Tensor:
            states.step = step
            return self.sd.model.unet(z, timestep, text).sample

        return self.sd.denoise(mixed_noise(first.noise, last.noise, a), predict)


def values_of(lora: Sequence[torch.nn.Parameter]) -> list[Tensor]:
    """Copies."""
    return [parameter.detach().clone() for parameter in lora]


@torch.no_grad()
def set_values(lora: Sequence[torch.nn.Parameter], values: Sequence[Tensor]) -> None:
    """Copy values into the LoRA."""
    for parameter, value in zip(lora, values, strict=True):
        parameter.copy_(value)


def mixed_noise(first: Tensor, last: Tensor, a: float) -> Tensor:
    """On the great circle, then with the ends' mixed mean and deviation in every channel (AdaIN)."""
    z = slerp(first, last, torch.tensor([a]).to(first))
    mean, deviation = (torch.lerp(*pair, a) for pair in zip(statistics(first), statistics(last), strict=True))
    own_mean, own_deviation = statistics(z)
    return (z - own_mean) / own_deviation * deviation + mean


def statistics(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel, (1, C, 1, 1) each."""
    return z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True)


def respaced(shares: Sequence[float], matrix: Matrix) -> list[float]:
    """Shares between which the distance is even, where frames at `shares` have the distances `matrix`: those at which
    the share of the path so far equals the share asked for."""
    path = np.concatenate([[0.0], np.cumsum(np.diag(matrix, 1))])
    return list(shares) if not path[-1] else np.interp(shares, path / path[-1], shares).tolist()
