"""Held-out edits with their ground truth: a source, an instruction, and the true picture at any strength.

Legend: pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .edits import EDITS, Edit
from .paint import Picture, Strength
from .scene import draw, draw_mask, random_scene

HELD_OUT_SEED = 1_000_000  # held-out scenes have seeds from here on; training used seeds 0 to 8


@dataclass(frozen=True)
class Case:
    """A source, an instruction, and the ground truth at any strength from 0 to 1, or to 1.5 where the edit `goes_on`.
    A scene's truth takes a strength map too, (H, W), where `EDITS[edit].takes_map`.

    `held_out_instruction`: a phrasing that training never saw, "" where there is none. `mask` is where the object
    stands that the instruction names, (H, W), None for other edits; `others` is where any other object stands."""

    kind: str  # "scene" or "photo"
    edit: str
    instruction: str
    source: Picture
    truth: Callable[[Strength], Picture]
    held_out_instruction: str = ""
    mask: NDArray[np.bool_] | None = None
    others: NDArray[np.bool_] | None = None
    goes_on: bool = False


def held_out_case(number: int, size: int, seed: int = HELD_OUT_SEED) -> Case:
    """Scene number `number` of a seed, with every edit in turn. Those of HELD_OUT_SEED itself have chosen the edits
    that pocket offers, see `evaluate.truth.score_truth`."""
    index, place = divmod(number, len(EDITS))
    return draw_case(list(EDITS.values())[place], np.random.default_rng((seed, place, index)), size)


def draw_cases(num_edits: int, size: int, seed: int = HELD_OUT_SEED) -> list[Case]:
    """The first `num_edits` of them."""
    return [held_out_case(number, size, seed) for number in range(num_edits)]


def draw_case(edit: Edit, rng: np.random.Generator, size: int, reparametrised: bool = True) -> Case:
    """A scene that the edit can be done to, and one of its objects; `reparametrised` as in `Edit.apply`."""
    scene = random_scene(rng)
    while not edit.targets(scene):
        scene = random_scene(rng)
    target = int(rng.choice(edit.targets(scene)))
    noun = scene.name_of(target) if edit.kinds else None
    others, words = edit.instructions(noun, held_out=True), edit.instructions(noun)
    held_out_instruction = others[deepcopy(rng).integers(len(others))]
    masks = [draw_mask(scene, number, size, size) for number in range(len(scene.things))] if edit.kinds else []
    return Case(
        kind="scene",
        edit=edit.name,
        instruction=words[rng.integers(len(words))],
        source=draw(scene, size, size),
        truth=lambda strength: edit.apply(scene, strength, size, size, target, reparametrised),
        held_out_instruction=held_out_instruction,
        mask=masks.pop(target) if masks else None,
        others=np.any(masks, axis=0) if masks else None,
        goes_on=edit.goes_on,
    )
