"""The pocket slider: projector and LoRA, trained on edits at every strength over a frozen base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import Place, StrengthProjector
from kontext_slider.train.flow import flow_loss, sample_sigmas
from kontext_slider.train.loop import Schedule, compile_blocks, make_optimizers, train
from kontext_slider.train.pocket.base import HOME, ShardSize, Words, all_instructions, load_batches
from kontext_slider.train.pocket.pairs import HIGHEST, any_strength


@dataclass(frozen=True)
class SliderRun:
    """The run that made the shipped slider. Its pictures have other seeds than the base model's."""

    seed: int = 2
    sizes: tuple[ShardSize, ...] = tuple(replace(size, sources=size.sources // 2) for size in HOME if size.width < 512)
    steps: int = 2800
    rate: float = 1e-3
    rank: int = 8
    hidden_dim: int = 384
    place: Place = "time_text_embed"
    device: str = "cpu"
    compiled: bool = True


def fresh_slider(pipe: KontextSliderPipeline, run: SliderRun) -> None:
    """Put an untrained slider on a frozen pipeline: offsets zero, LoRA without effect."""
    torch.manual_seed(run.seed)
    for module in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2):
        module.requires_grad_(False)
    projector = StrengthProjector(
        pooled_dim=pipe.transformer.config.pooled_projection_dim,
        hidden_dim=run.hidden_dim,
        modulation_dim=pipe.transformer.inner_dim,
        place=run.place,
        highest_strength=HIGHEST,
    )
    pipe.add_slider(projector.zero_last_layer(), run.rank)


def train_slider(pipe: KontextSliderPipeline, run: SliderRun, folder: Path) -> None:
    """Train (or resume) projector and LoRA in place."""
    pipe.to(run.device)
    fresh_slider(pipe, run)
    if run.compiled:
        compile_blocks(pipe.transformer)
    words = Words(pipe.components, all_instructions())
    batches = load_batches(folder / "slider", run.sizes, pipe.vae.to("cpu"), run.seed, words, any_strength)
    with torch.no_grad():
        texts, pooled_texts = words.encode(torch.arange(len(words.t5_ids)))  # all sentences, once

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(run.seed * 1_000_000 + step)
        source, target, rows, strengths = batches.draw(generator)
        noise = torch.randn(target.shape, generator=generator)
        sigmas = sample_sigmas(len(target), generator)
        source, target, noise, sigmas = (x.to(run.device) for x in (source, target, noise, sigmas))
        return strength_loss(pipe, source, target, texts[rows], pooled_texts[rows], sigmas, noise, strengths)

    modules: Sequence[torch.nn.Module] = (pipe.slider_projector, pipe.transformer)
    train(modules, make_optimizers(modules, run.rate), loss_at, Schedule(run.steps), folder / "slider", run.seed)


def strength_loss(
    pipe: KontextSliderPipeline,
    source: Tensor,
    target: Tensor,
    text: Tensor,
    pooled: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    strengths: Tensor,
) -> Tensor:
    """`flow_loss` with the slider applied at `strengths` (B,), in bfloat16 autocast."""
    with torch.autocast(sigmas.device.type, torch.bfloat16), pipe.slider_applied(strengths.tolist(), pooled):
        return flow_loss(pipe.transformer, source, target, text, pooled, sigmas, noise)
