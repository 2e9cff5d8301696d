"""What pocket trains on: random batches of drawn pairs, and how much each part of a mistake in them counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn

from kontext_slider.codec import PatchCodec
from kontext_slider.train.flow import (
    first_guess,
    flow_error,
    flow_loss,
    sample_sigmas,
    shown_error,
    weighted_square,
)
from kontext_slider.train.pocket.pairs import Mix, Shard, full_strength, load_or_draw
from kontext_slider.world.edits import NO_EDIT, family, trained_instructions

FOCUS = 6.0  # weight of a token on an object, in an edit of one, against 1 elsewhere
PIXELS = 5.0  # weight of an error's square as pixels show it, against 1 as latents do
PRACTISE = 2.0  # how often a pair of a practised edit is drawn, where one of the others is drawn once


@dataclass(frozen=True)
class ShardSize:
    """Pictures of (width, height), how many sources are drawn, and how many pairs make a batch.

    rows: which rows of tokens are trained on, all if None. mix: what the pictures show. share: how often a pair of
    these is drawn, where one of the others is drawn once."""

    width: int
    height: int
    sources: int
    batch: int
    rows: tuple[int, int] | None = None
    mix: Mix = Mix()
    share: float = 1.0

    @property
    def name(self) -> str:
        """What the files of such a shard are called."""
        rows = "" if self.rows is None else "-rows-{}-{}".format(*self.rows)
        return f"{self.width}x{self.height}{rows}"


def all_instructions() -> list[str]:
    """Every sentence the pocket model is trained on, the "no edit" ones included."""
    return [*(text for texts in trained_instructions().values() for text in texts), *NO_EDIT]


class Words:
    """All training sentences as token ids, each as a person may type it: "add fog", "Add fog", "Add fog."."""

    def __init__(self, parts: dict, sentences: list[str]):
        self.index = {text: number for number, text in enumerate(sentences)}
        self.parts = parts
        device = parts["text_encoder"].device
        typed = [
            *sentences,
            *(text.capitalize() for text in sentences),
            *(f"{text.capitalize()}." for text in sentences),
        ]
        self.clip_ids, self.t5_ids = (
            tokenizer(typed, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
            for tokenizer in (parts["tokenizer"], parts["tokenizer_2"])
        )  # (3 x number of sentences, T)
        self.clip_ids, self.t5_ids = self.clip_ids.to(device), self.t5_ids.to(device)

    def typed(self, sentences: Tensor, generator: torch.Generator) -> Tensor:
        """Row numbers of a random spelling of each sentence, (B,) -> (B,); half of them as they stand."""
        spelling = torch.multinomial(
            torch.tensor([2.0, 1.0, 1.0]), len(sentences), replacement=True, generator=generator
        )
        return sentences + len(self.index) * spelling

    def encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Row numbers (B,) -> text (B, T, E), pooled (B, P)."""
        text = self.parts["text_encoder_2"](self.t5_ids[rows])[0]
        return text, self.parts["text_encoder"](self.clip_ids[rows]).pooler_output


@dataclass(frozen=True)
class Batch:
    """Pairs to train on."""

    source: Tensor  # (B, C, h, w)
    target: Tensor  # (B, C, h, w)
    words: Tensor  # (B,) row numbers of `Words`
    strengths: Tensor  # (B,)
    weights: Tensor  # (B, L) of the target tokens
    shows: Tensor  # (B, L) uint8, the kinds of objects in a token of the source, as in a `Shard`

    def to(self, device: str) -> Batch:
        """The same on another device."""
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def half(self) -> Batch:
        """Its first pairs, half of them or one more."""
        return Batch(**{name: tensor[: (len(tensor) + 1) // 2] for name, tensor in vars(self).items()})


class Batches:
    """Random batches from shards of several sizes; batch number n is a function of n."""

    def __init__(
        self,
        shards: Sequence[Shard],
        batch_sizes: Sequence[int],
        words: Words,
        shares: Sequence[float] | None = None,
        practised: Collection[str] = (),
    ):
        self.shards, self.batch_sizes, self.words = shards, batch_sizes, words
        self.shard_weights = torch.tensor([float(len(shard)) for shard in shards])
        if shares is not None:
            self.shard_weights *= torch.tensor(shares)
        self.sentences = [torch.tensor([words.index[text] for text in shard.instruction]) for shard in shards]
        often = {t for name, texts in trained_instructions().items() if family(name) in practised for t in texts}
        self.odds = [torch.tensor([PRACTISE if t in often else 1.0 for t in shard.instruction]) for shard in shards]

    def draw(self, generator: torch.Generator) -> Batch:
        """The next batch, by `generator`."""
        number = int(torch.multinomial(self.shard_weights, 1, generator=generator))
        shard = self.shards[number]
        rows = torch.multinomial(self.odds[number], self.batch_sizes[number], replacement=True, generator=generator)
        sources = shard.source_index[rows]
        return Batch(
            source=shard.source[sources].float(),
            target=shard.target[rows].float(),
            words=self.words.typed(self.sentences[number][rows], generator),
            strengths=shard.strength[rows],
            weights=torch.where(shard.focus[rows], FOCUS, 1.0),
            shows=shard.shows[sources],
        )


def load_batches(
    prefix: Path,
    sizes: Sequence[ShardSize],
    codec: PatchCodec,
    seed: int,
    words: Words,
    strengths: Callable[[np.random.Generator], float] = full_strength,
    practised: Collection[str] = (),
) -> Batches:
    """Batches of all sizes, from files whose path begins with `prefix`; shards that are not there are drawn first."""
    shards = [
        load_or_draw(
            prefix.with_name(f"{prefix.name}-{size.name}.safetensors"),
            codec=codec,
            size=(size.width, size.height),
            num_sources=size.sources,
            seed=seed,
            strengths=strengths,
            rows=size.rows,
            mix=size.mix,
        )
        for size in sizes
    ]
    return Batches(shards, [size.batch for size in sizes], words, [size.share for size in sizes], practised)


def channel_weights(codec: nn.Module) -> Tensor | None:
    """What an error in each latent channel counts, (C,), 1 on average; None, all alike, where the codec does not tell
    how loud its channels are. Pocket's makes detail as loud as brightness, so that noise of one size hides both; in a
    picture an error of brightness is many times what one of detail is."""
    if not isinstance(codec, PatchCodec):
        return None
    weights = 1 + PIXELS * codec.gain.detach().square().reciprocal()
    return weights / weights.mean()


def batch_loss(
    transformer: FluxTransformer2DModel,
    batch: Batch,
    texts: tuple[Tensor, Tensor],
    channels: Tensor | None,
    generator: torch.Generator,
) -> Tensor:
    """The flow loss of a batch under noise from `generator`, a scalar. texts: (B, T, E) and pooled (B, P)."""
    noise = torch.randn(batch.target.shape, generator=generator).to(batch.target.device)
    sigmas = sample_sigmas(len(noise), generator).to(noise.device)
    return flow_loss(
        transformer, batch.source, batch.target, *texts, sigmas, noise, weights=batch.weights, channels=channels
    )


def anchored_loss(
    transformer: FluxTransformer2DModel,
    batch: Batch,
    texts: tuple[Tensor, Tensor],
    channels: Tensor | None,
    generator: torch.Generator,
    own: float = 0.0,
) -> Tensor:
    """The flow loss of frames as an anchored model shows them (`flow.shown_error`), a scalar; arguments as of
    `batch_loss`. batch: by `flow.beside_untouched`; a pair and its untouched picture have the same noise and level.
    own: how often the noise of a batch hides the model's own first guess and not the target."""
    pairs = len(batch.target) // 2
    noise = torch.randn(batch.target[:pairs].shape, generator=generator).to(batch.target.device)
    sigmas = sample_sigmas(pairs, generator).to(noise.device)
    sigmas, noise = torch.cat([sigmas, sigmas]), torch.cat([noise, noise])
    guessed = float(torch.rand(1, generator=generator)) < own
    hidden = first_guess(transformer, batch.source, *texts, noise) if guessed else None
    errors = flow_error(transformer, batch.source, batch.target, *texts, sigmas, noise, hidden=hidden)
    frame, untouched = errors.chunk(2)
    return weighted_square(shown_error(frame, untouched, batch.strengths[:pairs]), batch.weights[:pairs], channels)
