"""What several tests of the data pipeline share: a tiny model on the disk, a recipe for it, a filter that lets pass."""

from __future__ import annotations

from pathlib import Path

from kontext_slider.train.data.categories import CATEGORIES
from kontext_slider.train.data.filter import Threshold
from kontext_slider.train.data.run import Tools, run_stages
from kontext_slider.train.data.workspace import Recipe, Workspace
from tests.tiny import tiny_pipeline

ANYTHING = {name: Threshold(0.0, 10.0) for name in CATEGORIES}


def tiny_recipe(**changes) -> Recipe:
    """Pixel fades of a model that `run_tiny` brings itself, at 64 pixels (SSIM needs 44), nothing too uneven."""
    return Recipe(
        **{"model": "tiny", "size": 64, "morpher": "pixel-fade", "distance": "ssim", "max_kl": 2.0, **changes}
    )


def run_tiny(out: Path, num: int, until: str = "pack", **changes) -> Workspace:
    """A run on a tiny pipeline, always the same one."""
    recipe = tiny_recipe(**changes)
    return run_stages(out, recipe, num, Tools(recipe, loaded=tiny_pipeline()), until, "a test")
