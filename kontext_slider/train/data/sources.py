"""Source pictures of a run: synthetic scenes, a folder of photographs, or Subjects200K, which the paper took.

Picture number i of an endless row is always the same, so that an item is a function of the recipe and its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.batch import find_images, listed_results
from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics import to_image
from kontext_slider.train.data.recipe import SCENES, SUBJECTS, Rejected
from kontext_slider.train.pocket.pairs import draw_source
from kontext_slider.world.scene import Scene

UNREADABLE, LOW_QUALITY = "unreadable source", "low quality of the source"
HUB_ID = "Yuanshi/Subjects200K"  # Apache-2.0
GOOD = 5  # the best of its marks for `imageQuality`; its authors keep pairs with no other


@dataclass(frozen=True)
class Source:
    """A picture at working size. `origin` names where it is from; `scene` is what a drawn one shows."""

    image: Image.Image
    origin: str
    scene: Scene | None = None


Sources = Callable[[int], Source]  # raises Rejected for a picture that cannot be used


def open_sources(text: str, size: int, multiple: int, seed: int) -> Sources:
    """The sources that `text` names: "scenes", "subjects200k", "subjects200k:FOLDER" or a folder of pictures.

    Args:
        size: side of a square of the pictures' area; multiple: of their sides; pixels.
        seed: draws scenes.

    Raises InvalidInput where nothing is there."""
    if text == SCENES:
        return drawn_sources(size, multiple, seed)
    name, colon, folder = text.partition(":")
    if name == SUBJECTS:
        return pair_sources(open_pairs(Path(folder) if colon else None), size, multiple)
    return folder_sources(Path(text), size, multiple)


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
        return _source(path, path.name, size, multiple)

    return source


def pair_sources(rows: Iterable[Mapping[str, Any]], size: int, multiple: int) -> Sources:
    """The pictures of Subjects200K, two of each row, left before right; over and over. `rows` can be iterated anew.

    A row has an `image` file: two squares side by side with a margin around each. A picture whose quality its authors
    marked below their best is rejected."""
    pairs = Repeated(rows)

    def source(index: int) -> Source:
        number, right = divmod(index, 2)
        row = pairs[number]
        try:
            mark, file = (row.get("quality_assessment") or {}).get("imageQuality"), row["image"]["bytes"]
            is_low = mark is not None and mark < GOOD  # many have none
        except (LookupError, TypeError, AttributeError) as error:
            raise Rejected(UNREADABLE, f"row {number} has no picture or an odd mark") from error
        if is_low:
            raise Rejected(LOW_QUALITY, f"{mark} of {GOOD}")
        return _source(half_of(file, bool(right)), f"{HUB_ID}/{number}/{right}", size, multiple)

    return source


def _source(picture: Path | Image.Image, origin: str, size: int, multiple: int) -> Source:
    try:
        return Source(working_image(read_image(picture), size, multiple), origin)
    except InvalidInput as error:  # no picture, or a strip too narrow to edit
        raise Rejected(UNREADABLE, str(error)) from error


def half_of(file: bytes, right: bool) -> Image.Image:
    """One of the two squares of side a in a picture file of (2 a + 3 m) x (a + 2 m) pixels; m is the margin, 16 at 512.
    Rejected where there is no such pair."""
    try:
        pair = read_image(file)
    except InvalidInput as error:
        raise Rejected(UNREADABLE, str(error)) from error
    margin = 2 * pair.height - pair.width
    side = pair.height - 2 * margin
    if margin < 0 or side < 1:
        raise Rejected(UNREADABLE, f"{pair.width} x {pair.height} pixels are no pair of squares")
    left = margin + (side + margin) * right
    return pair.crop((left, margin, left + side, margin + side))


class Repeated:
    """Rows by number of something that can only be gone through from its start, over and over. Quick for numbers that
    rise."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]):
        self._rows, self._number, self._count = rows, -1, 0
        self._left: Iterator[Mapping[str, Any]] = iter(())
        self._row: Mapping[str, Any] = {}

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        number %= self._count or number + 1  # their count is known once all of them were seen
        if number < self._number or self._number < 0:
            self._left, self._number = iter(self._rows), -1
        while self._number < number:
            row = self._next()
            if row is None:
                self._count = self._number + 1
                if not self._count:
                    raise InvalidInput("The data set of sources has no rows. Check --sources.")
                self._number = -1
                return self[number]
            self._row, self._number = row, self._number + 1
        return self._row

    def _next(self) -> Mapping[str, Any] | None:
        from datasets.exceptions import DatasetsError

        try:
            return next(self._left, None)
        except (OSError, ValueError, LookupError, RuntimeError, DatasetsError) as error:  # of pyarrow and downloads too
            number = self._number + 1
            raise InvalidInput(f"Row {number} of the data set of sources cannot be read ({error}).") from error


def open_pairs(folder: Path | None) -> Iterable[Mapping[str, Any]]:
    """The rows of Subjects200K, their pictures as the bytes of a file: streamed from the hub, or of a folder with its
    Parquet files. InvalidInput where they cannot be read."""
    import datasets
    from datasets.exceptions import DatasetsError

    advice = f"Download it (hf download {HUB_ID} --repo-type dataset --local-dir FOLDER) and give {SUBJECTS}:FOLDER."
    files = [] if folder is None else sorted(map(str, folder.rglob("*.parquet")))
    if folder is not None and not files:
        raise InvalidInput(f"There are no Parquet files of Subjects200K in {str(folder)!r}. {advice}")
    try:
        if folder is None:
            rows = datasets.load_dataset(HUB_ID, split="train", streaming=True)
        else:
            rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        rows = rows.cast_column("image", datasets.Image(decode=False))
    except (OSError, ValueError, KeyError, DatasetsError) as error:
        raise InvalidInput(f"Subjects200K cannot be read ({error}). {advice}") from error
    return rows
