"""What several tests of the data pipeline share: a tiny model on the disk, a recipe for it, a filter that lets pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import datasets
from PIL import Image

from kontext_slider.train.config import parse
from kontext_slider.train.data.pack import Row
from kontext_slider.train.data.recipe import CATEGORIES, Recipe
from kontext_slider.train.data.scores import Threshold
from kontext_slider.train.data.stages import Models, run_stages
from kontext_slider.train.data.workspace import Workspace, join_strip
from tests.tiny import tiny_image, tiny_pipeline

ANYTHING = {name: Threshold(0.0, 10.0) for name in CATEGORIES}


def tiny_recipe(**changes) -> Recipe:
    """Pixel fades of a model that `run_tiny` brings itself, at 64 pixels (SSIM needs 44), nothing too uneven."""
    return parse(Recipe, {"model": "tiny", "size": 64, "morpher": "pixel-fade", "max_kl": 2.0, **changes})


def run_tiny(out: Path, num: int, until: str = "pack", **changes) -> Workspace:
    """A run on a tiny pipeline, always the same one."""
    recipe = tiny_recipe(**changes)
    return run_stages(out, recipe, num, Models(recipe.model, loaded=tiny_pipeline()), until, "a test")


@dataclass(frozen=True)
class Ready:
    """A row that is there, to be packed."""

    made: Row

    @property
    def id(self) -> str:
        return self.made.id

    def facts(self) -> str:
        return self.made.id

    def row(self) -> Row:
        return self.made


CATEGORY = "environment_change"
SEQUENCE = [0.3, 0.05, 0.06, 0.07, 0.06, 0.05, 0.04, 0.2]


def load(folder: Path):
    """A data set as a user loads it, with a cache that no other test has."""
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))


def write_strips(folder, **changes) -> list[Image.Image]:
    """One strip and its list in the authors' format."""
    tiles = [tiny_image(16, 16, seed) for seed in range(9)]
    folder.mkdir()
    join_strip(tiles).save(folder / "cat_01_nsamples_7.png")
    entry = {
        "image_name": "cat_01.png",
        "category": CATEGORY,
        "edit_instruction": "make_it_snow",
        "lpips_kontext_edit": 0.4,
        "lpips_edit_inversion": 0.2,
        "lpips_inversion_edit": 0.2,
        "lpips_sequence": SEQUENCE,
        "lpips_sequence_triangle": [0.0] * 7,
        **changes,
    }
    (folder / "data.json").write_text(json.dumps([entry, {**entry, "image_name": "lost.png"}]))
    return tiles
