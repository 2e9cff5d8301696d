"""All stages in order. A stage goes over all items before the next begins, so that large models come one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.images import working_size
from kontext_slider.metrics.distances import Distance
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import choose_device, choose_dtype, find_preset
from kontext_slider.train.data import stages
from kontext_slider.train.data.filter import find_thresholds
from kontext_slider.train.data.instruct import GrammarWriter, Writer, check_categories
from kontext_slider.train.data.items import Item, Stage, run_stage
from kontext_slider.train.data.manifest import alone_in
from kontext_slider.train.data.morph.registry import NAMES, find_morpher
from kontext_slider.train.data.pack import check_place, kept_rows, write_dataset
from kontext_slider.train.data.report import write_report
from kontext_slider.train.data.score import on_release_scale
from kontext_slider.train.data.sources import open_sources
from kontext_slider.train.data.workspace import ENDS, STAGES, Recipe, Workspace, open_workspace

GRAMMAR = "grammar"
PACK, PACKED = "pack", "packed"
LEAST_SIZE = 16  # pixels of a token's side, of every Kontext model
FREEMORPH_MODEL = "stabilityai/stable-diffusion-2-1"


@dataclass
class Tools:
    """Models of a run, loaded when a stage first asks and kept while it runs."""

    recipe: Recipe
    device: str | None = None
    dtype: str | None = None
    freemorph_model: str = FREEMORPH_MODEL
    loaded: KontextSliderPipeline | None = field(default=None, repr=False)

    @property
    def pipe(self) -> KontextSliderPipeline:
        """The editing model."""
        if self.loaded is None:
            self.loaded = load_base(self.recipe.model, *self.place)
        return self.loaded

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """Where further models go."""
        device = choose_device(self.device)
        return device, choose_dtype(self.dtype, device)


def load_base(model: str, device: torch.device, dtype: torch.dtype) -> KontextSliderPipeline:
    """An editing model; unlike `presets.load_pipeline` it asks for no slider, since that is what the data is for.

    `model`: a preset, a folder or a hub id. CheckpointError where it cannot be loaded."""
    preset = find_preset(model)
    try:
        pipe = KontextSliderPipeline.from_pretrained(preset.model if preset else model, dtype=dtype)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{model!r} cannot be loaded ({error}). Name a preset, a model folder or a hub id with --model."
        ) from error
    return pipe.to(device)


def run_stages(out: Path, recipe: Recipe, num_items: int, tools: Tools, until: str, command: str) -> Workspace:
    """Do what is not done yet, up to and with stage `until`, and write the report.

    `num_items`: of the whole data set; more may be asked for later. `command` is quoted in the report.
    Raises InvalidInput for a recipe that cannot be, or another than the folder was begun with."""
    check_recipe(recipe, num_items)
    with alone_in(out):
        workspace = open_workspace(out, recipe)
        if until == PACK:
            check_place(out / PACKED)
        first, step = recipe.share
        items = [Item(index) for index in range(first, num_items, step)]
        for name in STAGES[: STAGES.index(until) + 1 if until != PACK else len(STAGES)]:
            items = run_stage(name, items, _later(MAKERS[name], workspace, tools), workspace.manifest(name))
        write_report(workspace, command)
        if until == PACK:
            write_dataset(kept_rows(workspace), out / PACKED, title(recipe))
    return workspace


def _later(make: Callable[[Workspace, Tools], Stage], workspace: Workspace, tools: Tools) -> Stage:
    """The stage, made (models and all) when the first item needs it: a stage that is done loads nothing."""
    made: list[Stage] = []

    def stage(item: Item) -> dict:
        if not made:
            made.append(make(workspace, tools))
        return made[0](item)

    return stage


def make_instruct(workspace: Workspace, tools: Tools) -> Stage:
    recipe, pipe = workspace.recipe, tools.pipe
    size = recipe.size or pipe.defaults.size
    sources = open_sources(recipe.sources, size, 2 * pipe.vae_scale_factor, recipe.seed)
    return stages.Instruct(workspace, sources, make_writer(recipe, tools))


def make_writer(recipe: Recipe, tools: Tools) -> Writer:
    """The grammar, or a vision-language model by name, which takes the editing model's place in memory."""
    if recipe.writer == GRAMMAR:
        return GrammarWriter(frozenset(tools.pipe.known_instructions))
    tools.loaded = None
    from kontext_slider.train.data.vision import VisionModel, VisionWriter

    return VisionWriter(VisionModel.from_pretrained(recipe.writer, *tools.place))


def make_edit(workspace: Workspace, tools: Tools) -> Stage:
    return stages.Edit(workspace, tools.pipe)


def make_morph(workspace: Workspace, tools: Tools) -> Stage:
    morpher = find_morpher(workspace.recipe.morpher, *tools.place, tools.freemorph_model)
    return stages.Morph(workspace, tools.pipe, morpher)


def make_score(workspace: Workspace, tools: Tools) -> Stage:
    return stages.Score(workspace, score_distance(workspace.recipe.distance, tools.pipe))


def score_distance(name: str, pipe: KontextSliderPipeline) -> Distance:
    """A distance on the scale of its thresholds."""
    distance = find_distance(name, pipe)
    return on_release_scale(distance) if name == "lpips" else distance


def make_filter(workspace: Workspace, tools: Tools) -> Stage:
    return stages.Filter(find_thresholds(workspace.recipe.distance), workspace.recipe.max_kl)


MAKERS: dict[str, Callable[[Workspace, Tools], Stage]] = {
    "instruct": make_instruct,
    "edit": make_edit,
    "morph": make_morph,
    "score": make_score,
    "filter": make_filter,
}


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
