"""Held-out edits with their ground truth: a source, an instruction, and the true picture at any strength.

Scenes to choose on and scenes to report on are apart: whatever is chosen by its figures (which edits a model offers, a
baseline's scale, a schedule) is chosen on CHOOSING_SEEDS, and figures of quality are reported from REPORTING_SEED on.

Legend: pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .edits import EDITS, Edit, family
from .paint import Picture, Strength
from .scene import draw, draw_mask, random_scene

HELD_OUT_SEED = 1_000_000  # held-out scenes have seeds from here on; training used seeds 0 to 10
CHOOSING_SEEDS = range(100)  # of held-out scenes, counted from HELD_OUT_SEED; up to November 2026 all figures had these
REPORTING_SEED = 100  # the first one that nothing may be chosen on
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, are spread evenly


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


def choosing_seed(seed: int) -> int:
    """The seed itself, for whoever tunes or chooses by figures. Raises ValueError for one that figures are reported on:
    what was chosen on them would be tested on what chose it."""
    if seed not in CHOOSING_SEEDS:
        raise ValueError(
            f"Scenes of seed {seed} are for reporting. Choose and tune on seeds {CHOOSING_SEEDS.start} to "
            f"{CHOOSING_SEEDS.stop - 1}."
        )
    return seed


def held_out_case(number: int, size: int, seed: int = HELD_OUT_SEED) -> Case:
    """Scene number `number` of a seed, with every edit in turn, in the order of the table. Those of HELD_OUT_SEED
    itself have chosen the edits that pocket offers, see `evaluate.truth.score_truth`."""
    index, place = divmod(number, len(EDITS))
    return _scene_of(place, index, size, seed)


def draw_cases(num_edits: int, size: int, seed: int = HELD_OUT_SEED) -> list[Case]:
    """The first `num_edits` of them."""
    return [held_out_case(number, size, seed) for number in range(num_edits)]


def balanced_case(number: int, size: int, seed: int = HELD_OUT_SEED) -> Case:
    """Case number `number` of a seed in an order whose every beginning is a fair sample: families of edits occur
    equally often, up to one, and edits of an object make up the same share as they do of all families. Its scenes are
    among those of `held_out_case`; a family of several edits takes them in turn."""
    turn, place = divmod(number, len(_families()))
    members = _families()[place]
    index, member = divmod(turn, len(members))
    return _scene_of(list(EDITS).index(members[member]), index, size, seed)


def instructions_of(num_edits: int, seed: int) -> list[str]:
    """The instructions of the first of `balanced_case`, whatever their size."""
    return [balanced_case(number, 32, HELD_OUT_SEED + seed).instruction for number in range(num_edits)]


@cache
def _families() -> tuple[tuple[str, ...], ...]:
    """The names of the edits of each family, in an order in which both kinds, edits of an object and of the whole
    picture, are spread evenly, and neighbours of the table are far apart within their kind."""
    groups: dict[str, list[str]] = {}
    for name in EDITS:
        groups.setdefault(family(name), []).append(name)
    ranks: dict[str, float] = {}
    for is_object in (True, False):
        kind = [name for name, members in groups.items() if is_object_edit(members[0]) == is_object]
        steps = sorted(range(len(kind)), key=lambda k: k * GOLDEN % 1)
        ranks |= {kind[k]: (rank + 0.5) / len(kind) for rank, k in enumerate(steps)}
    return tuple(tuple(groups[name]) for name in sorted(ranks, key=lambda name: ranks[name]))


def is_object_edit(edit: str) -> bool:
    """Whether an edit, by its name, is done to one object; the others change the whole picture."""
    return bool(EDITS[edit].kinds)


def _scene_of(place: int, index: int, size: int, seed: int) -> Case:
    """Scene number `index` of the edit at `place` in the table."""
    return draw_case(list(EDITS.values())[place], np.random.default_rng((seed, place, index)), size)


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
