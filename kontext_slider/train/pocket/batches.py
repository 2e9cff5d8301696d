"""Random batches of synthetic pairs, and how much each part of an error in them counts.

Legend: B pairs, C latent channels, h and w latent rows and columns, L = h w / 4 tokens, T text tokens, E and P widths
of text and of pooled text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kontext_slider.codec import PatchCodec
from kontext_slider.errors import InvalidInput
from kontext_slider.files import json_sha256, weights_sha256
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.config import SliderConfig
from kontext_slider.train.flow import SliderBatch, sample_sigmas
from kontext_slider.train.pocket.pairs import Shard, ShardSize, load_or_draw
from kontext_slider.world.edits import NO_EDIT, family, trained_instructions

FOCUS = 6.0  # weight of a token on an object, in an edit of one, against 1 elsewhere
PIXELS = 5.0  # weight of an error's square as pixels show it, against 1 as latents do
PRACTISE = 2.0  # how often a pair of a practised edit is drawn, where one of the others is drawn once


def all_instructions() -> list[str]:
    """Every sentence the pocket model is trained on, the "no edit" ones included."""
    return [*(text for texts in trained_instructions().values() for text in texts), *NO_EDIT]


class Words:
    """Sentences as token ids, each as a person may type it: "add fog", "Add fog", "Add fog."."""

    def __init__(self, parts: dict, sentences: list[str]):
        self.index = {text: number for number, text in enumerate(sentences)}
        self.parts = parts
        capitals = [text.capitalize() for text in sentences]
        typed = [*sentences, *capitals, *(f"{text}." for text in capitals)]
        self.clip_ids, self.t5_ids = (
            tokenizer(typed, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
            .input_ids.to(parts["text_encoder"].device)
            for tokenizer in (parts["tokenizer"], parts["tokenizer_2"])
        )  # fmt: skip  # (3 x number of sentences, T)

    def typed(self, sentences: Tensor, generator: torch.Generator) -> Tensor:
        """Row numbers of a random spelling of each sentence, (B,) -> (B,); half of them as they stand."""
        odds = torch.tensor([2.0, 1.0, 1.0])
        return sentences + len(self.index) * torch.multinomial(odds, len(sentences), True, generator=generator)

    def encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Row numbers (B,) -> text (B, T, E), pooled (B, P)."""
        text = self.parts["text_encoder_2"](self.t5_ids[rows])[0]
        return text, self.parts["text_encoder"](self.clip_ids[rows]).pooler_output


class Batch(NamedTuple):
    """Pairs to train on."""

    source: Tensor  # (B, C, h, w)
    target: Tensor  # (B, C, h, w)
    words: Tensor  # (B,) row numbers of `Words`
    strengths: Tensor  # (B,)
    weights: Tensor  # (B, L) of the target tokens
    shows: Tensor  # (B, L) uint8, the kinds of objects in a token of the source, as in a `Shard`

    def half(self) -> Batch:
        """Its first pairs, half of them or one more."""
        return Batch(*(tensor[: (len(tensor) + 1) // 2] for tensor in self))


class Batches:
    """Random batches from shards of several sizes; pairs of `practised` edits are drawn more often."""

    def __init__(
        self, shards: Sequence[Shard], sizes: Sequence[ShardSize], words: Words, practised: Collection[str] = ()
    ):
        self.shards, self.sizes, self.words = shards, sizes, words
        self.shard_weights = torch.tensor([float(len(shard)) for shard in shards])
        self.shard_weights *= torch.tensor([size.share for size in sizes])
        self.sentences = [torch.tensor([words.index[text] for text in shard.instruction]) for shard in shards]
        often = {t for name, texts in trained_instructions().items() if family(name) in practised for t in texts}
        self.odds = [torch.tensor([PRACTISE if t in often else 1.0 for t in shard.instruction]) for shard in shards]

    def draw(self, generator: torch.Generator) -> Batch:
        """The next batch, by `generator`."""
        number = int(torch.multinomial(self.shard_weights, 1, generator=generator))
        shard = self.shards[number]
        rows = torch.multinomial(self.odds[number], self.sizes[number].batch, replacement=True, generator=generator)
        sources = shard.source_index[rows]
        return Batch(
            source=shard.source[sources].float(),
            target=shard.target[rows].float(),
            words=self.words.typed(self.sentences[number][rows], generator),
            strengths=shard.strength[rows],
            weights=torch.where(shard.focus[rows], FOCUS, 1.0),
            shows=shard.shows[sources],
        )


def load_batches(prefix: Path, config: Any, codec: PatchCodec, parts: dict, whole: bool) -> Batches:
    """Batches of all sizes, from files whose path begins with `prefix`; shards that are not there are drawn first.

    Args:
        config: has `sizes`, `practised` and `seed`.
        parts: tokenizers and text encoders, by their names in the pipeline.
        whole: as of `draw_shard`.
    """
    shards = [
        load_or_draw(prefix.with_name(f"{prefix.name}-{size.name}.safetensors"), codec, size, config.seed, whole)
        for size in config.sizes
    ]
    words = Words(parts, sorted({text for shard in shards for text in shard.instruction}))
    return Batches(shards, config.sizes, words, config.practised)


def check_draws(config: SliderConfig) -> None:
    """InvalidInput for settings without sizes of pictures to draw."""
    if not config.sizes:
        raise InvalidInput("These settings draw no pictures of their own. Give a data set: --data FOLDER.")


class SliderPairs:
    """A slider's batches of synthetic pairs at any strength; the batch of a step is a function of the step.

    Shards lie in the run's folder, `pairs-256x256.safetensors` and so on; what is not there is drawn.
    """

    def __init__(self, pipe: KontextSliderPipeline, config: SliderConfig, folder: Path) -> None:
        check_draws(config)
        self.config = config
        encoders = (pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
        self.key = json_sha256([weights_sha256(part) for part in encoders])[:16]
        self.batches = load_batches(folder / "pairs", config, pipe.vae.to("cpu"), pipe.components, whole=False)
        words = self.batches.words
        with torch.no_grad():  # all sentences, once
            texts = words.encode(torch.arange(len(words.t5_ids)))
        self.text, self.pooled = (encoded.cpu() for encoded in texts)

    def draw(self, step: int, part: int, num_parts: int) -> SliderBatch:
        """The batch of a step. With residual correction it has half as many pairs, which are trained twice."""
        if num_parts > 1:
            raise InvalidInput("Synthetic pairs are trained on by one process in one part: set accumulation=1.")
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_000 + step)
        drawn = self.batches.draw(generator)
        pairs = drawn.half() if self.config.anchored else drawn
        noise = self.config.noise_scale * torch.randn(pairs.target.shape, generator=generator)
        sigmas = sample_sigmas(self.config.timesteps, len(noise), generator)
        return SliderBatch(
            pairs.source,
            pairs.target,
            pairs.strengths,
            self.text[pairs.words],
            self.pooled[pairs.words],
            sigmas,
            noise,
            kept=torch.ones(len(noise)),
            weights=pairs.weights,
        )


def channel_weights(codec: nn.Module) -> Tensor | None:
    """What an error in each latent channel counts, (C,), 1 on average; None, all alike, for codecs that do not say how
    much their channels are amplified. Pocket's makes detail as strong as brightness, so that noise of one size hides
    both; in a picture an error of brightness is many times what one of detail is."""
    if not isinstance(codec, PatchCodec):
        return None
    weights = 1 + PIXELS * codec.gain.detach().square().reciprocal()
    return weights / weights.mean()
