"""Held-out edits with their ground truth: a source, an instruction, and the true picture at any strength.

Legend: pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .edits import EDITS, Edit
from .paint import Picture
from .scene import Scene, draw, draw_mask, random_scene

HELD_OUT_SEED = 1_000_000  # held-out scenes have seeds from here on; training used seeds 0 to 8


@dataclass(frozen=True)
class Case:
    """A source, an instruction, and the ground truth at any strength from 0 to 1, or to 1.5 where the edit `goes_on`.

    `mask` is where the object stands that the instruction names, (H, W), None for other edits; `others` is where any
    other object stands. `held_out`: whether the phrasing is one that training never saw."""

    kind: str  # "scene" or "photo"
    edit: str
    instruction: str
    source: Picture
    truth: Callable[[float], Picture]
    mask: NDArray[np.bool_] | None = None
    others: NDArray[np.bool_] | None = None
    held_out: bool = False
    goes_on: bool = False


def scene_cases(per_edit: int, size: int, seed: int = HELD_OUT_SEED, held_out: bool = False) -> Iterable[Case]:
    """`per_edit` held-out scenes for every edit; `held_out`: in phrasings that training never saw.

    A scene is a function of seed, edit and its number: more per edit begin with the same ones. Those of HELD_OUT_SEED
    itself have chosen the edits that pocket offers, see `score_truth`."""
    for number, edit in enumerate(EDITS.values()):
        for index in range(per_edit):
            yield draw_case(edit, np.random.default_rng((seed, number, index)), size, held_out)


@dataclass(frozen=True)
class SceneTruth:
    """The ground truth of a case on a synthetic scene; values alone, so that it can go to another process."""

    edit: str
    scene: Scene
    size: int
    target: int
    reparametrised: bool

    def __call__(self, strength: float) -> Picture:
        return EDITS[self.edit].apply(self.scene, strength, self.size, self.size, self.target, self.reparametrised)


def draw_case(
    edit: Edit, rng: np.random.Generator, size: int, held_out: bool = False, reparametrised: bool = True
) -> Case:
    """A scene that the edit can be done to, and one of its objects; `reparametrised` as in `Edit.apply`."""
    scene = random_scene(rng)
    while not edit.targets(scene):
        scene = random_scene(rng)
    target = int(rng.choice(edit.targets(scene)))
    noun = scene.name_of(target) if edit.kinds else None
    words = edit.held_out_instructions(noun) if held_out else edit.instructions(noun)
    masks = [draw_mask(scene, number, size, size) for number in range(len(scene.things))] if edit.kinds else []
    return Case(
        kind="scene",
        edit=edit.name,
        instruction=words[rng.integers(len(words))],
        source=draw(scene, size, size),
        truth=SceneTruth(edit.name, scene, size, target, reparametrised),
        mask=masks.pop(target) if masks else None,
        others=np.any(masks, axis=0) if masks else None,
        held_out=held_out,
        goes_on=edit.goes_on,
    )


def draw_cases(num_edits: int, size: int, seed: int, held_out: bool = False) -> list[Case]:
    """`num_edits` held-out cases, every edit in turn; `held_out`: the same scenes in phrasings that
    training never saw."""
    edits = list(EDITS.values())
    turns = [divmod(number, len(edits)) for number in range(num_edits)]  # index and edit, as `scene_cases` counts them
    return [draw_case(edits[n], np.random.default_rng((seed, n, index)), size, held_out) for index, n in turns]
