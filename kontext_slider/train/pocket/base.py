"""The base pocket model: a Kontext transformer and its text encoders, trained on whole edits, as FLUX Kontext is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kontext_slider.codec import PatchCodec
from kontext_slider.train.loop import Schedule, compile_blocks, make_optimizers, train
from kontext_slider.train.pocket.batches import (
    Batches,
    ShardSize,
    Words,
    all_instructions,
    batch_loss,
    channel_weights,
    load_batches,
)
from kontext_slider.train.pocket.folder import open_run
from kontext_slider.train.pocket.guides import Guides, guided
from kontext_slider.train.pocket.model import PocketSizes, build_parts, go_on_from
from kontext_slider.train.pocket.pairs import SCENES_ONLY, changed_tokens, draw_source, to_tensor

GUIDANCE = 0.2  # weight of what the guides ask, against 1 for the edit
# Families of edits that are learned slowest and still gain: of objects, their materials and shapes.
PRACTISED = (
    "stripes",
    "dots",
    "wood",
    "metal",
    "into-ball",
    "into-box",
    "into-cone",
    "bigger",
    "smaller",
    "taller-mountains",
    "lamp-on",
)

# Objects are small and must be told from one another: they get half of the steps, on the band of rows where they stand.
OBJECTS = ShardSize(256, 256, 4000, 13, rows=(5, 15), mix=SCENES_ONLY)
HOME = (
    OBJECTS,
    ShardSize(256, 256, 1600, 8),
    ShardSize(288, 224, 500, 8),
    ShardSize(224, 288, 500, 8),
    ShardSize(320, 208, 500, 8),
    ShardSize(208, 320, 500, 8),
    ShardSize(192, 192, 300, 14),
    ShardSize(384, 384, 200, 4),
    ShardSize(512, 512, 100, 2),
)


@dataclass(frozen=True)
class BaseRun:
    """The run that made the shipped weights. `start`: a model folder to go on from, its codec included. `practised`:
    families of edits that are drawn more often."""

    start: Path | None = None
    device: str = "cpu"
    seed: int = 1
    codec_seed: int = 0
    codec_pictures: int = 400
    sizes: tuple[ShardSize, ...] = HOME
    steps: int = 4200
    adam_rate: float = 1e-3
    muon_rate: float = 2e-3
    practised: tuple[str, ...] = PRACTISED
    compiled: bool = True


def fit_codec(run: BaseRun, folder: Path) -> PatchCodec:
    """The codec of this run: the start's own, or fitted on drawn pictures once and kept in `folder`."""
    if run.start is not None:
        return PatchCodec.from_pretrained(run.start / "vae", torch_dtype=torch.float32)
    if not (folder / "config.json").exists():
        rng = np.random.default_rng(run.codec_seed)
        pictures = (to_tensor(draw_source(rng, 256, 256)[0]) for _ in range(run.codec_pictures))
        PatchCodec().fit(pictures).save_pretrained(folder)
    return PatchCodec.from_pretrained(folder)


def train_base(run: BaseRun, folder: Path, sizes: PocketSizes | None = None) -> dict:
    """Train to the end (or resume) and return the pipeline's parts, `vae` included, on the CPU in float32.

    InvalidInput where the folder holds another run."""
    open_run(folder / "base", run)
    codec = fit_codec(run, folder / "codec")
    parts = {**build_parts(all_instructions(), sizes or PocketSizes(), run.seed), "vae": codec}
    if run.start is not None:
        go_on_from(run.start, parts)
    words = Words(parts, all_instructions())
    batches = load_batches(folder / "base", run.sizes, codec, run.seed, words, practised=run.practised)
    with guided(parts["transformer"]) as guides:
        modules = [parts[name].to(run.device) for name in ("transformer", "text_encoder", "text_encoder_2")]
        modules.append(guides.to(run.device))
        optimizers = make_optimizers(modules, run.adam_rate, run.muon_rate)
        if run.compiled:
            compile_blocks(parts["transformer"])
        train(
            modules,
            optimizers,
            base_loss(run, parts, words, batches, guides),
            Schedule(run.steps),
            folder / "base",
            run.seed,
        )
    return parts


def base_loss(run: BaseRun, parts: dict, words: Words, batches: Batches, guides: Guides) -> Callable[[int], Tensor]:
    """The loss of a step: the edit's, and what the guides ask of the source."""
    channels = channel_weights(parts["vae"])

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(run.seed + step)
        batch = batches.draw(generator).to(run.device)
        changed = changed_tokens(batch.source, batch.target)
        with torch.autocast(batch.target.device.type, torch.bfloat16):
            loss = batch_loss(parts["transformer"], batch, words.encode(batch.words), channels, generator)
            return loss + GUIDANCE * guides(batch.shows, changed, batch.weights)

    return loss_at
