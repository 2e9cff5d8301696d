"""Writers of instructions, behind one protocol; the one here is a grammar, `vision` has the one that looks.

Whatever a writer draws, it draws from the generator it is given, so that an item's instruction is a function of the
recipe and the item's number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from kontext_slider.errors import InvalidInput
from kontext_slider.train.data import pocket
from kontext_slider.train.data.categories import CATEGORIES
from kontext_slider.train.data.items import Rejected
from kontext_slider.train.data.sources import Source
from kontext_slider.world.edits import Edit

NOTHING_FITS = "no edit fits"

T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What to do to a source; `edit` names the world's own edit where there is one, and its truth with it."""

    instruction: str
    category: str
    edit: str | None = None


class Writer(Protocol):
    """Writes one instruction of one of `categories` for a source. Rejected where there is none."""

    def write(self, source: Source, categories: Sequence[str], rng: np.random.Generator) -> Wish: ...


@dataclass(frozen=True)
class GrammarWriter:
    """Draws a category, one of its edits that fits the source, and a phrasing.

    `known`: names of the edits that the model was trained for; empty, all of them."""

    known: frozenset[str] = frozenset()

    def write(self, source: Source, categories: Sequence[str], rng: np.random.Generator) -> Wish:
        groups = {name: self._fitting(edits) for name, edits in pocket.edits_by_category(source.scene).items()}
        names = [name for name in categories if groups.get(name)]
        if not names:
            raise Rejected(NOTHING_FITS, f"of {', '.join(categories)}")
        category = draw_one(rng, names)
        edit = draw_one(rng, groups[category])
        return Wish(pocket.draw_instruction(rng, edit, source.scene), category, edit.name)

    def _fitting(self, edits: Sequence[Edit]) -> list[Edit]:
        return [edit for edit in edits if not self.known or edit.name in self.known]


def draw_one(rng: np.random.Generator, values: Sequence[T]) -> T:
    """One of some values, all as likely."""
    return values[int(rng.integers(len(values)))]


def check_categories(names: Collection[str]) -> tuple[str, ...]:
    """InvalidInput for an empty list and for a category that does not exist."""
    unknown = [name for name in names if name not in CATEGORIES]
    if unknown or not names:
        raise InvalidInput(f"The categories are {', '.join(CATEGORIES)}, not {', '.join(unknown) or 'none'}.")
    return tuple(dict.fromkeys(names))
