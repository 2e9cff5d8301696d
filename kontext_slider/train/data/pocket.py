"""The only door from the data pipeline to the small drawn world: its sources, its edits, and how they are worded."""

from __future__ import annotations

import numpy as np

from kontext_slider.train.pocket.pairs import draw_source
from kontext_slider.world.edits import EDITS, NO_EDIT, Edit
from kontext_slider.world.paint import Picture
from kontext_slider.world.scene import Scene

KEEP = NO_EDIT[0]  # the words for "no edit at all"


def drawn_source(rng: np.random.Generator, width: int, height: int) -> tuple[Picture, Scene | None]:
    """A drawn picture (H, W, 3); with the scene behind it, or None for one without."""
    return draw_source(rng, width, height)


def edits_by_category(scene: Scene | None) -> dict[str, list[Edit]]:
    """The edits that mean something on a scene; without one, those of any picture."""
    groups: dict[str, list[Edit]] = {}
    for edit in EDITS.values():
        if edit.is_global if scene is None else edit.targets(scene):
            groups.setdefault(edit.category, []).append(edit)
    return groups


def draw_instruction(rng: np.random.Generator, edit: Edit, scene: Scene | None) -> str:
    """Ask for an edit, of one of the scene's objects where it is an edit of objects, in words that were trained."""
    noun = None
    if scene is not None and edit.kinds:
        noun = scene.name_of(int(rng.choice(edit.targets(scene))))
    words = edit.instructions(noun)
    return words[rng.integers(len(words))]
