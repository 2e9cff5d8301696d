"""The paper's ablations trained on pocket's own drawn pairs: the same shards, batches, noise and loss as its slider."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.flow import flow_loss, sample_sigmas
from kontext_slider.train.loop import Schedule, compile_blocks, make_optimizers, train
from kontext_slider.train.pocket.base import Batches, Words, all_instructions, load_batches
from kontext_slider.train.pocket.pairs import HIGHEST, any_strength
from kontext_slider.train.pocket.slider import SliderRun
from kontext_slider.train.slider.ablations import Projector, save_slider_of, slider_on
from kontext_slider.train.slider.model import fresh_slider

ABLATIONS = ("text-space", "no-pooled")


def train_text_space_slider(
    pipe: KontextSliderPipeline, run: SliderRun, folder: Path, batches: Batches | None = None
) -> Projector:
    """`train_ablation` of the strength as a text token."""
    return train_ablation(pipe, "text-space", run, folder, batches)


def train_no_pooled_slider(
    pipe: KontextSliderPipeline, run: SliderRun, folder: Path, batches: Batches | None = None
) -> Projector:
    """`train_ablation` of the projector without the pooled text."""
    return train_ablation(pipe, "no-pooled", run, folder, batches)


def train_ablation(
    pipe: KontextSliderPipeline, kind: str, run: SliderRun, folder: Path, batches: Batches | None = None
) -> Projector:
    """Train (or resume) one ablation in place, as `train_slider` does the slider; save it to `folder/KIND/slider`.

    A slider that is on the pipeline loses its LoRA to the ablation's; its projector is taken off.

    Args:
        kind: one of ABLATIONS.
        run: as for `train_slider`; `place` does not count for "text-space".
        folder: checkpoints go to `folder/KIND`; the shards are the slider's, `folder/slider-*`, drawn if not there.
        batches: pairs to train on in the place of the shards; their `words` belong to this pipeline.

    Returns the trained projector. Raises InvalidInput for an unknown kind.
    """
    if kind not in ABLATIONS:
        raise InvalidInput(f"The ablation is one of {', '.join(ABLATIONS)}, not {kind!r}.")
    settings = {"hidden_dim": run.hidden_dim, "place": run.place, "highest_strength": HIGHEST}
    projector = fresh_slider(pipe, kind, run.rank, run.seed, **settings)
    if run.compiled:
        compile_blocks(pipe.transformer)
    if batches is None:
        words = Words(pipe.components, all_instructions())
        batches = load_batches(folder / "slider", run.sizes, pipe.vae, run.seed, words, any_strength)
    drawn = batches
    with torch.no_grad():
        texts, pooled_texts = drawn.words.encode(torch.arange(len(drawn.words.t5_ids)))  # all sentences, once

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(run.seed * 1_000_000 + step)
        source, target, rows, strengths = drawn.draw(generator)
        noise = torch.randn(target.shape, generator=generator)
        sigmas = sample_sigmas(len(target), generator)
        text, pooled = texts[rows], pooled_texts[rows]
        with torch.autocast("cpu", torch.bfloat16), slider_on(pipe.transformer, projector, strengths, pooled):
            return flow_loss(pipe.transformer, source, target, text, pooled, sigmas, noise)

    modules: tuple[torch.nn.Module, ...] = (projector, pipe.transformer)
    train(modules, make_optimizers(modules, run.rate), loss_at, Schedule(run.steps), folder / kind, run.seed)
    save_slider_of(folder / kind / "slider", projector, pipe.transformer)
    return projector
