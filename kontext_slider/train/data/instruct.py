"""What an item begins with: a source picture and an instruction for it. Writers of instructions stand behind one
protocol; the one here is a grammar, `vision` has the one that sees the source.

Everything is drawn from the generator that is given, so that an item is a function of the recipe and its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image

from kontext_slider.batch import find_images, listed_results
from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics import to_image
from kontext_slider.train.data.recipe import Rejected
from kontext_slider.train.pocket.pairs import draw_source
from kontext_slider.world.edits import EDITS, Edit
from kontext_slider.world.scene import Scene

UNREADABLE, NOTHING_FITS = "unreadable source", "no edit fits"

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A picture at working size. `origin` names where it is from; `scene` is what a drawn one shows."""

    image: Image.Image
    origin: str
    scene: Scene | None = None


Sources = Callable[[int], Source]  # picture number i of an endless row, always the same for the same number


def drawn_sources(size: int, multiple: int, seed: int) -> Sources:
    """Square synthetic pictures, each a function of the seed and its number. `multiple`: of the sides, pixels."""

    def source(index: int) -> Source:
        side = size // multiple * multiple
        picture, scene = draw_source(np.random.default_rng((seed, index, 0)), side, side)
        return Source(to_image(picture), f"drawn/{seed}/{index}", scene)

    return source


def folder_sources(folder: Path, size: int, multiple: int) -> Sources:
    """The pictures of a folder in the order of their names, over and over; leave it alone while a run lasts.
    InvalidInput for a folder without any."""
    paths, problems = find_images([str(folder)], listed_results(folder))
    if not paths:
        raise InvalidInput(problems[0])

    def source(index: int) -> Source:
        path = paths[index % len(paths)]
        try:
            return Source(working_image(read_image(path), size, multiple), path.name)
        except InvalidInput as error:  # no picture, or a strip too narrow to edit
            raise Rejected(UNREADABLE, str(error)) from error

    return source


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
