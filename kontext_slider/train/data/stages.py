"""The stages of a run, in order: instruct, edit, morph, score, filter, and then pack.

A stage goes over all items before the next begins, so that large models come one at a time: the editing model is let
go before the writer, FreeMorph or LPIPS is loaded. Random numbers are functions of the recipe's seed and the item's
number, so an item that is done again comes out the same.
"""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.metrics import networks
from kontext_slider.metrics.distances import Distance
from kontext_slider.morph import OWN_MODELS, Morpher, MorpherLoader
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import BaseFacts, choose_device, choose_dtype, load_base, read_base_facts
from kontext_slider.run_folder import alone_in
from kontext_slider.train.data.instruct import GrammarWriter, Writer
from kontext_slider.train.data.kept import kept_items
from kontext_slider.train.data.pack import check_place, write_dataset
from kontext_slider.train.data.recipe import GRAMMAR, Recipe, Rejected
from kontext_slider.train.data.report import write_report
from kontext_slider.train.data.scores import check_scores, on_release_scale, score_tiles, scores_of
from kontext_slider.train.data.sources import Sources, open_sources
from kontext_slider.train.data.workspace import STAGES, Item, Workspace, join_strip, open_workspace

PACK, PACKED = "pack", "packed"
NOT_FINITE = "distances that are no numbers"


@dataclass
class Models:
    """The editing model of a run, loaded when it is first needed, and where further models go."""

    name: str
    device: str | None = None
    dtype: str | None = None
    offload: bool = False  # of the morpher's model, where it can
    loaded: KontextSliderPipeline | None = field(default=None, repr=False)

    @property
    def pipe(self) -> KontextSliderPipeline:
        """The editing model; it needs no slider, since that is what the data is for."""
        if self.loaded is None:
            device, dtype = self.place
            self.loaded = load_base(self.name, dtype).to(device)
        return self.loaded

    @property
    def facts(self) -> BaseFacts:
        """Sizes and known instructions of the editing model, which is not loaded for them."""
        if self.loaded is None:
            return read_base_facts(self.name)
        pipe = self.loaded
        return BaseFacts(pipe.defaults.size, 2 * pipe.vae_scale_factor, pipe.known_instructions)

    def let_go(self) -> None:
        """Free the memory of the editing model, so that another one has room; it is loaded again when it is needed."""
        self.loaded = None
        free_memory()

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        device = choose_device(self.device)
        return device, choose_dtype(self.dtype, device)


def run_stages(out: Path, recipe: Recipe, num_items: int, models: Models, until: str, command: str) -> Workspace:
    """Do what is not done yet, up to and with stage `until`, and write the report.

    `num_items`: of the whole data set; it may be raised later. `command` is quoted in the report.
    Raises InvalidInput for a folder that was begun with another recipe."""
    if num_items < 1:
        raise InvalidInput(f"At least 1 item is needed, not {num_items}: --num.")
    check_packages(recipe, until)
    with alone_in(out):
        workspace = open_workspace(out, recipe)
        if until == PACK:
            check_place(out / PACKED)
        first, step = recipe.share
        items = [Item(index) for index in range(first, num_items, step)]
        for name in STAGES[: STAGES.index(until) + 1 if until != PACK else len(STAGES)]:
            items = workspace.run_stage(name, items, getattr(Stages(workspace, models), name))
            free_memory()  # of what the stage has loaded
        write_report(workspace, command)
        if until == PACK:
            packed = write_dataset(kept_items([workspace]), out / PACKED, title(recipe))
            if packed.problems:
                raise InvalidInput(f"{len(packed.problems)} edits could not be packed. The first: {packed.problems[0]}")
    return workspace


def free_memory() -> None:
    """Give back what nothing refers to any more: modules and their hooks refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_packages(recipe: Recipe, until: str) -> None:
    """InvalidInput where a later stage needs a package that is not installed: said before the first hour of work."""
    missing = [name for name in ("lpips", "torchvision") if find_spec(name) is None]
    if recipe.distance == "lpips" and until in ("score", "filter", PACK) and missing:
        raise InvalidInput(
            f"The distance 'lpips' needs the package {' and '.join(missing)}: pip install lpips torchvision. Or do the "
            "stages before it, with --until morph."
        )


def title(recipe: Recipe) -> str:
    """The data set's title."""
    return f"Edits at {recipe.num_steps + 1} strengths, by {Path(recipe.model).name} and {recipe.morpher}"


class Stages:
    """A method per stage: it writes the item's picture, if it makes one, and returns facts, or raises Rejected.

    What only one stage uses is loaded when its first item needs it: a stage that is done loads nothing. Each stage is
    called on an object of its own, so that what it has loaded goes with it."""

    def __init__(self, workspace: Workspace, models: Models) -> None:
        self.workspace, self.recipe, self.models = workspace, workspace.recipe, models

    def instruct(self, item: Item) -> dict[str, Any]:
        """Open a source, have an instruction written, keep both."""
        source = self._sources(item.index)
        rng = np.random.default_rng((self.recipe.seed, item.index, 1))
        written = self._writer.write(source, self.recipe.categories, rng)
        self.workspace.save("sources", item.id, source.image)
        return {"origin": source.origin, **asdict(written)}

    def edit(self, item: Item) -> dict[str, Any]:
        """The full edit, by the base model without its slider."""
        # as good as independent of every other item's noise
        seed = int(np.random.SeedSequence((self.recipe.seed, item.index, 2)).generate_state(1)[0])
        source = self.workspace.load("sources", item.id)
        edited = full_edit(self.models.pipe, source, item.facts["instruction"], seed)
        self.workspace.save("edits", item.id, edited)
        return {"noise_seed": seed}

    def morph(self, item: Item) -> dict[str, Any]:
        """The frames between source and edit, as a strip."""
        source, edited = (self.workspace.load(kind, item.id) for kind in ("sources", "edits"))
        words, seed, morpher = item.facts["instruction"], item.facts["noise_seed"], self._morpher
        pipe: Any = None if self.recipe.morpher in OWN_MODELS else self.models.pipe  # has a model of its own
        frames = morpher(pipe, source, edited, words, self.recipe.strengths, seed)
        self.workspace.save("strips", item.id, join_strip([source, *frames, edited]))
        return {}

    def score(self, item: Item) -> dict[str, Any]:
        """Distances along the strip, on the scale of their thresholds."""
        scores = asdict(score_tiles(self.workspace.tiles(item.id), self._distance))
        if not np.isfinite(np.hstack(list(scores.values()))).all():
            raise Rejected(NOT_FINITE)
        return scores

    def filter(self, item: Item) -> dict[str, Any]:
        """Thresholds by category."""
        recipe = self.recipe
        check_scores(scores_of(item.facts), item.facts["category"], recipe.distance, recipe.max_kl)
        return {}

    @cached_property
    def _sources(self) -> Sources:
        facts = self.models.facts
        return open_sources(self.recipe.sources, self.recipe.size or facts.size, facts.multiple, self.recipe.seed)

    @cached_property
    def _writer(self) -> Writer:
        """The grammar, or a vision-language model by name, which takes the editing model's place in memory."""
        if self.recipe.writer == GRAMMAR:
            return GrammarWriter(frozenset(self.models.facts.known_instructions))
        self.models.let_go()
        from kontext_slider.train.data.vision import VisionModel, VisionWriter

        return VisionWriter(VisionModel.from_pretrained(self.recipe.writer, *self.models.place))

    @cached_property
    def _morpher(self) -> Morpher:
        if self.recipe.morpher in OWN_MODELS:
            self.models.let_go()
        loader = MorpherLoader(*self.models.place, self.recipe.captions, self.models.offload)
        return loader.load(self.recipe.morpher, self.recipe.morpher_model)

    @cached_property
    def _distance(self) -> Distance:
        """SSIM needs no network. LPIPS takes the editing model's place."""
        if self.recipe.distance != "lpips":
            return find_distance(self.recipe.distance)
        self.models.let_go()
        return on_release_scale(networks.lpips_distance(self.models.place[0]))


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
        num_inference_steps=defaults.steps_of_base,
        guidance_scale=defaults.guidance,
        max_sequence_length=defaults.max_sequence_length,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
