"""Source pictures by number: the files of a folder, or drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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


Sources = Callable[[int], Source]  # picture number i of an endless row, always the same for the same number


def find_sources(folder: str | None, size: int, multiple: int, seed: int) -> Sources:
    """Drawn sources, or those of a folder. `multiple`: of both sides, pixels. InvalidInput for a folder without any."""
    if folder is None:
        return drawn_sources(size, multiple, seed)
    paths, problems = find_images([folder], listed_results(Path(folder)))
    if not paths:
        raise InvalidInput(problems[0])
    return folder_sources(paths, size, multiple)


def drawn_sources(size: int, multiple: int, seed: int) -> Sources:
    """Square synthetic pictures, each a function of the seed and its number."""

    def source(index: int) -> Source:
        side = size // multiple * multiple
        picture, scene = draw_source(np.random.default_rng((seed, index, 0)), side, side)
        return Source(to_image(picture), f"drawn/{seed}/{index}", scene)

    return source


def folder_sources(paths: Sequence[Path], size: int, multiple: int) -> Sources:
    """The pictures of a folder in the order of their names, over and over. Leave the folder alone while a run lasts."""

    def source(index: int) -> Source:
        path = paths[index % len(paths)]
        try:
            return Source(working_image(read_image(path), size, multiple), path.name)
        except InvalidInput as error:  # no picture, or a strip too narrow to edit
            raise Rejected(UNREADABLE, str(error)) from error

    return source
