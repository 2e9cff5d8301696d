"""The stages of a run, in order: instruct, edit, morph, score, filter, and then pack.

A stage goes over all items before the next begins, so that large models come one at a time. Random numbers are
functions of the recipe's seed and the item's number, so an item that is done again comes out the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.images import working_size
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import choose_device, choose_dtype, find_preset
from kontext_slider.train.data.categories import check_categories
from kontext_slider.train.data.instruct import GrammarWriter, Writer
from kontext_slider.train.data.morph import NAMES, find_morpher
from kontext_slider.train.data.pack import check_place, kept_rows, write_dataset
from kontext_slider.train.data.report import write_report
from kontext_slider.train.data.scores import check_scores, find_thresholds, on_release_scale, score_tiles, scores_of
from kontext_slider.train.data.sources import find_sources
from kontext_slider.train.data.workspace import (
    ENDS,
    STAGES,
    TRUE,
    Item,
    Recipe,
    Rejected,
    Stage,
    Workspace,
    alone_in,
    join_strip,
    open_workspace,
)

GRAMMAR = "grammar"
PACK, PACKED = "pack", "packed"
NOT_FINITE = "distances that are no numbers"
LEAST_SIZE = 16  # pixels of a token's side, of every Kontext model
FREEMORPH_MODEL = "stabilityai/stable-diffusion-2-1"


@dataclass
class Models:
    """Models of a run, loaded when a stage first needs them and kept while it runs."""

    recipe: Recipe
    device: str | None = None
    dtype: str | None = None
    freemorph_model: str = FREEMORPH_MODEL
    loaded: KontextSliderPipeline | None = field(default=None, repr=False)

    @property
    def pipe(self) -> KontextSliderPipeline:
        """The editing model; unlike `presets.load_pipeline` it needs no slider, since that is what the data is for.
        CheckpointError where it cannot be loaded."""
        if self.loaded is None:
            device, dtype = self.place
            preset = find_preset(self.recipe.model)
            name = preset.model if preset else self.recipe.model
            try:
                self.loaded = KontextSliderPipeline.from_pretrained(name, dtype=dtype).to(device)
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"{self.recipe.model!r} cannot be loaded ({error}). Name a preset, a model folder or a hub id with "
                    "--model."
                ) from error
        return self.loaded

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """Where further models go."""
        device = choose_device(self.device)
        return device, choose_dtype(self.dtype, device)


def run_stages(out: Path, recipe: Recipe, num_items: int, models: Models, until: str, command: str) -> Workspace:
    """Do what is not done yet, up to and with stage `until`, and write the report.

    `num_items`: of the whole data set; it may be raised later. `command` is quoted in the report.
    Raises InvalidInput for a recipe that cannot be, or another than the folder was begun with."""
    check_recipe(recipe, num_items)
    with alone_in(out):
        workspace = open_workspace(out, recipe)
        if until == PACK:
            check_place(out / PACKED)
        first, step = recipe.share
        items = [Item(index) for index in range(first, num_items, step)]
        for name in STAGES[: STAGES.index(until) + 1 if until != PACK else len(STAGES)]:
            items = workspace.run_stage(name, items, _made_late(MAKERS[name], workspace, models))
        write_report(workspace, command)
        if until == PACK:
            write_dataset(kept_rows(workspace), out / PACKED, title(recipe))
    return workspace


def check_recipe(recipe: Recipe, num_items: int) -> None:
    """InvalidInput for what would fail hours later."""
    check_categories(recipe.categories)
    find_thresholds(recipe.distance)
    first, step = recipe.share
    if not 0 <= first < step:
        raise InvalidInput(f"A share is K/N with K from 0 to N - 1, such as 0/4, not {first}/{step}.")
    if recipe.morpher not in NAMES:
        raise InvalidInput(f"There is no morpher '{recipe.morpher}'. Choose one of: {', '.join(NAMES)}.")
    if recipe.ends not in ENDS:
        raise InvalidInput(f"The ends are one of {', '.join(ENDS)}, not '{recipe.ends}'.")
    if num_items < 1 or recipe.num_steps < 2 or recipe.seed < 0:
        raise InvalidInput("At least 1 item and 2 steps are needed, and a seed of 0 or more.")
    if not recipe.max_kl > 0:
        raise InvalidInput(f"The most that steps may be uneven is a number above 0, not {recipe.max_kl}: --max-kl.")
    if recipe.size is not None:
        working_size((1, 1), recipe.size, LEAST_SIZE)


def title(recipe: Recipe) -> str:
    """The data set's title."""
    return f"Edits at {recipe.num_steps + 1} strengths, by {Path(recipe.model).name} and {recipe.morpher}"


def _made_late(make: Callable[[Workspace, Models], Stage], workspace: Workspace, models: Models) -> Stage:
    """The stage, made (models and all) when the first item needs it: a stage that is done loads nothing."""
    made = functools.cache(lambda: make(workspace, models))
    return lambda item: made()(item)


def make_instruct(workspace: Workspace, models: Models) -> Stage:
    """Open a source, have an instruction written, keep both."""
    recipe, pipe = workspace.recipe, models.pipe
    size, multiple = recipe.size or pipe.defaults.size, 2 * pipe.vae_scale_factor
    open_source = find_sources(recipe.sources, size, multiple, recipe.seed)
    writer = make_writer(recipe, models)

    def instruct(item: Item) -> dict[str, Any]:
        source = open_source(item.index)
        written = writer.write(source, recipe.categories, np.random.default_rng((recipe.seed, item.index, 1)))
        workspace.save("sources", item.id, source.image)
        return {"origin": source.origin, **asdict(written)}

    return instruct


def make_writer(recipe: Recipe, models: Models) -> Writer:
    """The grammar, or a vision-language model by name, which takes the editing model's place in memory."""
    if recipe.writer == GRAMMAR:
        return GrammarWriter(frozenset(models.pipe.known_instructions))
    models.loaded = None
    from kontext_slider.train.data.vision import VisionModel, VisionWriter

    return VisionWriter(VisionModel.from_pretrained(recipe.writer, *models.place))


def make_edit(workspace: Workspace, models: Models) -> Stage:
    """The full edit, by the base model without its slider."""
    pipe = models.pipe

    def edit(item: Item) -> dict[str, Any]:
        # as good as independent of every other item's noise
        seed = int(np.random.SeedSequence((workspace.recipe.seed, item.index, 2)).generate_state(1)[0])
        source = workspace.load("sources", item.id)
        workspace.save("edits", item.id, full_edit(pipe, source, item.facts["instruction"], seed))
        return {"noise_seed": seed}

    return edit


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


def make_morph(workspace: Workspace, models: Models) -> Stage:
    """The frames between source and edit, as a strip."""
    recipe, pipe = workspace.recipe, models.pipe
    morpher = find_morpher(recipe.morpher, *models.place, models.freemorph_model)

    def morph(item: Item) -> dict[str, Any]:
        source, edited = (workspace.load(kind, item.id) for kind in ("sources", "edits"))
        words, seed = item.facts["instruction"], item.facts["noise_seed"]
        frames = morpher(pipe, source, edited, words, recipe.strengths, seed)
        if recipe.ends == TRUE:
            frames = with_true_ends(frames, recipe.strengths, source, edited)
        workspace.save("strips", item.id, join_strip([source, *frames, edited]))
        return {}

    return morph


def with_true_ends(
    frames: Sequence[Image.Image], strengths: Sequence[float], source: Image.Image, edited: Image.Image
) -> list[Image.Image]:
    """The frames, with the true source at strength 0 and the true edit at strength 1."""
    true = {0.0: source, 1.0: edited}
    return [true.get(strength, frame) for strength, frame in zip(strengths, frames, strict=True)]


def make_score(workspace: Workspace, models: Models) -> Stage:
    """Distances along the strip, on the scale of their thresholds."""
    name = workspace.recipe.distance
    distance = find_distance(name, models.pipe)
    if name == "lpips":
        distance = on_release_scale(distance)

    def score(item: Item) -> dict[str, Any]:
        scores = asdict(score_tiles(workspace.tiles(item.id), distance))
        if not np.isfinite([*scores["steps"], *(value for name, value in scores.items() if name != "steps")]).all():
            raise Rejected(NOT_FINITE)
        return scores

    return score


def make_filter(workspace: Workspace, models: Models) -> Stage:
    """Thresholds by category."""
    thresholds, max_kl = find_thresholds(workspace.recipe.distance), workspace.recipe.max_kl

    def keep(item: Item) -> dict[str, Any]:
        check_scores(scores_of(item.facts), item.facts["category"], thresholds, max_kl)
        return {}

    return keep


MAKERS: dict[str, Callable[[Workspace, Models], Stage]] = {
    "instruct": make_instruct,
    "edit": make_edit,
    "morph": make_morph,
    "score": make_score,
    "filter": make_filter,
}
