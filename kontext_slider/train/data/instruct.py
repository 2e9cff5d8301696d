"""An instruction for a source picture. Writers stand behind one protocol; the one here is a grammar, `vision` has the
one that sees the source.

Everything is drawn from the generator that is given, so that an item is a function of the recipe and its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from kontext_slider.train.data.recipe import Rejected
from kontext_slider.train.data.sources import Source
from kontext_slider.world.edits import EDITS, Edit

NOTHING_FITS = "no edit fits"

T = TypeVar("T")


@dataclass(frozen=True)
class Written:
    """What to do to a source; `edit` names the synthetic edit where there is one, and its ground truth with it."""

    instruction: str
    category: str
    edit: str | None = None


class Writer(Protocol):
    """Writes one instruction of one of `categories` for a source. Rejected where there is none."""

    def write(self, source: Source, categories: Sequence[str], rng: np.random.Generator) -> Written: ...


@dataclass(frozen=True)
class GrammarWriter:
    """Draws a category, one of its edits that fits the source, and a phrasing that was trained.

    `known`: names of the edits that the model was trained for; empty, all of them."""

    known: frozenset[str] = frozenset()

    def write(self, source: Source, categories: Sequence[str], rng: np.random.Generator) -> Written:
        scene, groups = source.scene, dict[str, list[Edit]]()
        for edit in EDITS.values():
            fits = edit.is_global if scene is None else edit.targets(scene)
            if fits and (not self.known or edit.name in self.known):
                groups.setdefault(edit.category, []).append(edit)
        names = [name for name in categories if name in groups]
        if not names:
            raise Rejected(NOTHING_FITS, f"of {', '.join(categories)}")
        category = draw_one(rng, names)
        edit, noun = draw_one(rng, groups[category]), None
        if scene is not None and edit.kinds:  # an edit of objects, of one that it fits
            noun = scene.name_of(int(rng.choice(edit.targets(scene))))
        return Written(draw_one(rng, edit.instructions(noun)), category, edit.name)


def draw_one(rng: np.random.Generator, values: Sequence[T]) -> T:
    """One of some values, all as likely."""
    return values[int(rng.integers(len(values)))]
