"""Source pictures by number: the files of a folder, or drawn ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from kontext_slider.batch import listed_results
from kontext_slider.errors import InvalidInput
from kontext_slider.image_search import find_images
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics import to_image
from kontext_slider.train.data.workspace import Rejected
from kontext_slider.train.pocket.pairs import draw_source
from kontext_slider.world.scene import Scene

UNREADABLE = "unreadable source"


@dataclass(frozen=True)
class Source:
    """A picture at working size. `origin` names where it is from; `scene` is what a drawn one shows."""

    image: Image.Image
    origin: str
    scene: Scene | None = None


class Sources(Protocol):
    """Picture `index` of an endless row, always the same for the same number."""

    def open(self, index: int) -> Source: ...


@dataclass(frozen=True)
class DrawnSources:
    """Square synthetic pictures, each a function of the seed and its number."""

    size: int
    multiple: int
    seed: int

    def open(self, index: int) -> Source:
        side = self.size // self.multiple * self.multiple
        picture, scene = draw_source(np.random.default_rng((self.seed, index, 0)), side, side)
        return Source(to_image(picture), f"drawn/{self.seed}/{index}", scene)


@dataclass(frozen=True)
class FolderSources:
    """The pictures of a folder in the order of their names, over and over. Leave the folder alone while a run lasts."""

    paths: tuple[Path, ...]
    size: int
    multiple: int

    def open(self, index: int) -> Source:
        path = self.paths[index % len(self.paths)]
        try:
            return Source(working_image(read_image(path), self.size, self.multiple), path.name)
        except InvalidInput as error:  # no picture, or a strip too narrow to edit
            raise Rejected(UNREADABLE, str(error)) from error


def open_sources(folder: str | None, size: int, multiple: int, seed: int) -> Sources:
    """Drawn sources, or those of a folder. `multiple`: of both sides, pixels. InvalidInput for a folder without any."""
    if folder is None:
        return DrawnSources(size, multiple, seed)
    paths, problems = find_images([folder], listed_results(Path(folder)))
    if not paths:
        raise InvalidInput(problems[0])
    return FolderSources(tuple(paths), size, multiple)
