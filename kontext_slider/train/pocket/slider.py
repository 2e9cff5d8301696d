"""The pocket slider: projector and LoRA, trained on edits at every strength over a frozen base model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.checkpoint import read_slider
from kontext_slider.files import weights_sha256
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import Place
from kontext_slider.train.flow import beside_untouched
from kontext_slider.train.loop import Schedule, compile_blocks, make_optimizers, train
from kontext_slider.train.pocket.base import HOME, PRACTISED
from kontext_slider.train.pocket.batches import (
    Batches,
    ShardSize,
    Words,
    all_instructions,
    anchored_loss,
    batch_loss,
    channel_weights,
    load_batches,
)
from kontext_slider.train.pocket.folder import open_run
from kontext_slider.train.pocket.pairs import HIGHEST, any_strength
from kontext_slider.train.slider.model import fresh_slider

Applied = Callable[[Tensor, Tensor], AbstractContextManager[None]]  # (strengths (B,), pooled (B, P)): the slider on


@dataclass(frozen=True)
class SliderRun:
    """The run that made the shipped slider. Its pictures have other seeds than the base model's.

    start: a model folder with a slider of the same sizes to go on from. anchored: whether frames are trained as an
    anchored model shows them, half as many pairs in a batch. own: how often those are trained to go on from the model's
    own first guess (`flow.first_guess`). degree: of the offsets' polynomial (`StrengthProjector`). practised: families
    drawn twice as often."""

    start: Path | None = None
    seed: int = 2
    sizes: tuple[ShardSize, ...] = tuple(
        replace(size, sources=size.sources // 3, share=0.6 if size.rows else 1.0) for size in HOME if size.width < 512
    )
    steps: int = 2800
    rate: float = 1e-3
    rank: int = 8
    hidden_dim: int = 384
    place: Place = "time_text_embed"
    degree: int | None = 3
    anchored: bool = True
    own: float = 0.5
    practised: tuple[str, ...] = PRACTISED
    device: str = "cpu"
    compiled: bool = True


def train_slider(pipe: KontextSliderPipeline, run: SliderRun, folder: Path) -> None:
    """Train (or resume) projector and LoRA in place. InvalidInput where the folder holds another run, or one on another
    base."""
    base = [weights_sha256(part) for part in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2, pipe.vae)]
    open_run(folder / "slider", run, base=base)
    pipe.to(run.device)
    settings = {"hidden_dim": run.hidden_dim, "place": run.place, "highest_strength": HIGHEST, "degree": run.degree}
    projector = fresh_slider(pipe, "modulation", run.rank, run.seed, **settings)
    if run.start is not None:
        go_on_with_slider(pipe, projector, run.start)

    def applied(strengths: Tensor, pooled: Tensor) -> AbstractContextManager[None]:
        return pipe.slider_applied(strengths.tolist(), pooled)

    train_projector(pipe, projector, applied, slider_batches(pipe, run, folder), run, folder / "slider")


def go_on_with_slider(pipe: KontextSliderPipeline, projector: nn.Module, start: Path) -> None:
    """Take the weights of an earlier slider of the same sizes."""
    earlier = read_slider(start)
    projector.load_state_dict(earlier.projector.state_dict())
    lora.put_lora(pipe.transformer, earlier.lora)
    for parameter in lora.slider_lora_parameters(pipe.transformer):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


def slider_batches(pipe: KontextSliderPipeline, run: SliderRun, folder: Path) -> Batches:
    """Pairs at any strength, from the shards `folder/slider-*`, drawn if not there."""
    words = Words(pipe.components, all_instructions())
    return load_batches(folder / "slider", run.sizes, pipe.vae.to("cpu"), run.seed, words, any_strength, run.practised)


def train_projector(
    pipe: KontextSliderPipeline, projector: nn.Module, applied: Applied, batches: Batches, run: SliderRun, folder: Path
) -> None:
    """Train (or resume, from `folder`) a projector of any kind and the LoRA that is on the transformer."""
    if run.compiled:
        compile_blocks(pipe.transformer)
    with torch.no_grad():
        texts, pooled_texts = batches.words.encode(torch.arange(len(batches.words.t5_ids)))  # all sentences, once
    channels = channel_weights(pipe.vae)
    loss = partial(anchored_loss, own=run.own) if run.anchored else batch_loss

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(run.seed * 1_000_000 + step)
        drawn = batches.draw(generator).to(run.device)
        batch = beside_untouched(drawn.half()) if run.anchored else drawn
        text, pooled = texts[batch.words], pooled_texts[batch.words]
        with torch.autocast(batch.target.device.type, torch.bfloat16), applied(batch.strengths, pooled):
            return loss(pipe.transformer, batch, (text, pooled), channels, generator)

    modules = (projector, pipe.transformer)
    train(modules, make_optimizers(modules, run.rate), loss_at, Schedule(run.steps), folder, run.seed)
