"""The five stages that go item by item: instruct, edit, morph, score, filter.

Each is a small class that holds its tools; called with an item it does its work (see `items`). Random numbers are
functions of the recipe's seed and the item's number, so an item that is done again comes out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image

from kontext_slider.metrics.distances import Distance
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data import filter as filters
from kontext_slider.train.data.instruct import Writer
from kontext_slider.train.data.items import Item, Rejected
from kontext_slider.train.data.morph.registry import Morpher
from kontext_slider.train.data.score import Scores, score_tiles
from kontext_slider.train.data.sources import Sources
from kontext_slider.train.data.workspace import TRUE, Workspace, join_strip

NOT_FINITE = "distances that are no numbers"


@dataclass(frozen=True)
class Instruct:
    """Open a source, have an instruction written, keep both."""

    workspace: Workspace
    sources: Sources
    writer: Writer

    def __call__(self, item: Item) -> dict[str, Any]:
        recipe = self.workspace.recipe
        source = self.sources.open(item.index)
        rng = np.random.default_rng((recipe.seed, item.index, 1))
        wish = self.writer.write(source, recipe.categories, rng)
        self.workspace.save("sources", item.id, source.image)
        return {"origin": source.origin, **asdict(wish)}


@dataclass(frozen=True)
class Edit:
    """The full edit, by the base model without its slider."""

    workspace: Workspace
    pipe: KontextSliderPipeline

    def __call__(self, item: Item) -> dict[str, Any]:
        seed = noise_seed(self.workspace.recipe.seed, item.index)
        source = self.workspace.load("sources", item.id)
        self.workspace.save("edits", item.id, full_edit(self.pipe, source, item.facts["instruction"], seed))
        return {"noise_seed": seed}


@dataclass(frozen=True)
class Morph:
    """The frames between source and edit, as a strip."""

    workspace: Workspace
    pipe: KontextSliderPipeline
    morpher: Morpher

    def __call__(self, item: Item) -> dict[str, Any]:
        recipe = self.workspace.recipe
        source, edited = (self.workspace.load(kind, item.id) for kind in ("sources", "edits"))
        frames = self.morpher(
            self.pipe, source, edited, item.facts["instruction"], recipe.strengths, item.facts["noise_seed"]
        )
        if recipe.ends == TRUE:
            frames = with_true_ends(frames, recipe.strengths, source, edited)
        self.workspace.save("strips", item.id, join_strip([source, *frames, edited]))
        return {}


@dataclass(frozen=True)
class Score:
    """Distances along the strip."""

    workspace: Workspace
    distance: Distance

    def __call__(self, item: Item) -> dict[str, Any]:
        scores = asdict(score_tiles(self.workspace.tiles(item.id), self.distance))
        if not np.isfinite([*scores["steps"], *(value for name, value in scores.items() if name != "steps")]).all():
            raise Rejected(NOT_FINITE)
        return scores


@dataclass(frozen=True)
class Filter:
    """Thresholds by category."""

    thresholds: filters.Thresholds
    max_kl: float

    def __call__(self, item: Item) -> dict[str, Any]:
        filters.check(scores_of(item.facts), item.facts["category"], self.thresholds, self.max_kl)
        return {}


def scores_of(facts: dict[str, Any]) -> Scores:
    """The scores among an item's facts."""
    return Scores(**{field.name: facts[field.name] for field in fields(Scores)})


def noise_seed(seed: int, index: int) -> int:
    """The noise of item `index`, as good as independent of every other item's."""
    return int(np.random.SeedSequence((seed, index, 2)).generate_state(1)[0])


def full_edit(pipe: KontextSliderPipeline, source: Image.Image, instruction: str, seed: int) -> Image.Image:
    """The pipeline's plain edit at the source's own size, with the model's own settings."""
    defaults = pipe.defaults
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        source,
        instruction,
        height=source.height,
        width=source.width,
        max_area=source.width * source.height,
        _auto_resize=False,
        num_inference_steps=defaults.steps,
        guidance_scale=defaults.guidance,
        max_sequence_length=defaults.max_sequence_length,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]


def with_true_ends(
    frames: Sequence[Image.Image], strengths: Sequence[float], source: Image.Image, edited: Image.Image
) -> list[Image.Image]:
    """The frames, with the true source at strength 0 and the true edit at strength 1."""
    true = {0.0: source, 1.0: edited}
    return [true.get(strength, frame) for strength, frame in zip(strengths, frames, strict=True)]
