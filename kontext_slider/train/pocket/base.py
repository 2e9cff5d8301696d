"""The base pocket model: a Kontext transformer and its text encoders, trained on whole edits, as FLUX Kontext is."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kontext_slider.codec import PatchCodec
from kontext_slider.files import put_in_place, writing
from kontext_slider.model_folder import check_files, check_part, loading, write_checksums
from kontext_slider.train.config import SMALL, Count, Natural, Positive, RunConfig, open_run
from kontext_slider.train.flow import flow_error, sample_sigmas, weighted_square
from kontext_slider.train.loop import Loop, compile_blocks, make_accelerator, make_optimizers
from kontext_slider.train.pocket.batches import Batch, Batches, Words, all_instructions, channel_weights, load_batches
from kontext_slider.train.pocket.heads import AuxiliaryHeads, heads_on
from kontext_slider.train.pocket.model import PocketSizes, build_parts, kept_tokenizers, load_start
from kontext_slider.train.pocket.pairs import BASE_SIZES, PRACTISED, ShardSize, changed_tokens, draw_source, to_tensor

HEADS = 0.2  # weight of the auxiliary heads' loss, against 1 for the edit
TRAINED = ("transformer", "text_encoder", "text_encoder_2")


class BaseConfig(RunConfig):
    """The base model's run. `start`: a model folder to start from, its codec included. `rate` is AdamW's, `muon_rate`
    Muon's. `sizes`, `practised`: as of `SliderConfig`."""

    codec_seed: Natural = 0
    codec_pictures: Count = 400
    sizes: tuple[ShardSize, ...] = BASE_SIZES
    practised: tuple[str, ...] = PRACTISED
    muon_rate: Positive = 2e-3


BASE = BaseConfig(**SMALL, seed=1, device="cpu", steps=4200)  # the shipped base went on from earlier ones


class BaseBatch(NamedTuple):
    """Pairs with their noise."""

    pairs: Batch
    sigmas: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)


class TrainedBase(nn.Module):
    """What is trained, heads included. Its answer to a batch is the loss: the edit's and the heads'."""

    def __init__(self, parts: dict, words: Words, heads: AuxiliaryHeads) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.text_encoder_2 = (parts[name] for name in TRAINED)
        self.heads, self.words, self.channels = heads, words, channel_weights(parts["vae"])

    def forward(self, batch: BaseBatch) -> Tensor:
        """A scalar."""
        pairs, texts = batch.pairs, self.words.encode(batch.pairs.words)
        error = flow_error(self.transformer, pairs.source, pairs.target, *texts, batch.sigmas, batch.noise)
        changed = changed_tokens(pairs.source, pairs.target)
        loss = weighted_square(error, pairs.weights, self.channels)
        return loss + HEADS * self.heads(pairs.shows, changed, pairs.weights)


def fit_codec(config: BaseConfig, folder: Path) -> PatchCodec:
    """The codec of this run: the start's own, or fitted on drawn pictures once and kept in `folder`. CheckpointError
    where it is damaged there."""
    if config.start is not None:
        return PatchCodec.from_pretrained(config.start / "vae", torch_dtype=torch.float32)
    if not (folder / "config.json").exists():
        rng = np.random.default_rng(config.codec_seed)
        pictures = (to_tensor(draw_source(rng, 256, 256)[0]) for _ in range(config.codec_pictures))
        codec, new = PatchCodec().fit(pictures), folder.with_name(f".{folder.name}.partial")
        for left in (new, folder):  # of a kill
            shutil.rmtree(left, ignore_errors=True)
        with writing(folder):
            codec.save_pretrained(new)
            write_checksums(new, [file.name for file in new.iterdir()])
            put_in_place(new, folder)
    check_files(folder)
    check_part(folder, PatchCodec)
    with loading(folder):
        return PatchCodec.from_pretrained(folder)


def train_base(config: BaseConfig, folder: Path, sizes: PocketSizes | None = None) -> dict:
    """Train to the end (or resume) and return the pipeline's parts, `vae` included, on the CPU in float32.

    InvalidInput where the folder holds another run."""
    open_run(folder / "base", config)
    accelerator = make_accelerator(config)
    sizes = sizes or PocketSizes()
    tokenizers = kept_tokenizers(folder / "base" / "words", all_instructions(), sizes.text_length)
    parts = build_parts(tokenizers, sizes, config.seed)
    parts["vae"] = fit_codec(config, folder / "codec")
    if config.start is not None:
        load_start(config.start, parts)
    for name in TRAINED:
        parts[name].to(accelerator.device)
    batches = load_batches(folder / "base", config, parts["vae"], parts, whole=True)
    with heads_on(parts["transformer"]) as heads:
        model = TrainedBase(parts, batches.words, heads)
        if config.compiled:
            compile_blocks(parts["transformer"])
        optimizers = make_optimizers(model, config, config.muon_rate)
        Loop(model, optimizers, partial(draw_batch, batches, config.seed), config, folder / "base", accelerator).run()
    for name in TRAINED:
        parts[name].to("cpu")
    return parts


def draw_batch(batches: Batches, seed: int, step: int, part: int, num_parts: int) -> BaseBatch:
    """The batch of a step, whole, whatever the part: each process trains on all of it."""
    generator = torch.Generator().manual_seed(seed + step)
    pairs = batches.draw(generator)
    noise = torch.randn(pairs.target.shape, generator=generator)
    return BaseBatch(pairs, sample_sigmas("near_one", len(noise), generator), noise)
