"""The folder of a run: its recipe, a manifest per stage, and the pictures.

recipe.json                  what was asked for; a folder holds the data of one recipe
instruct.jsonl ... filter.jsonl   what each stage has done, item by item
sources/ID.png  edits/ID.png the source at working size, the full edit
strips/ID.png                source, frames at strengths 0 .. 1, edit: tiles of one size side by side
packed/  report/             made anew from the above
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.files import open_run, read_run, write_whole
from kontext_slider.images import read_image
from kontext_slider.train.data.categories import CATEGORIES
from kontext_slider.train.data.manifest import Manifest, png_bytes

RECIPE = "recipe.json"
STAGES = ("instruct", "edit", "morph", "score", "filter")
RECONSTRUCTION, TRUE = "reconstruction", "true"
ENDS = (RECONSTRUCTION, TRUE)


@dataclass(frozen=True)
class Recipe:
    """All that decides what the data looks like, apart from how many items there are.

    Attributes:
        model: the editing model: a preset, a folder or a hub id.
        sources: a folder of pictures; None for drawn ones.
        writer: "grammar", or a vision-language model (folder or hub id).
        categories: kinds of edits to draw from.
        morpher: a name of `morph.registry`.
        ends: frames 0 and N are the morpher's reconstructions (the paper) or the true source and edit.
        distance: a name of `metrics.distances`, behind scores and filter.
        size: side in pixels of a square with the area of the pictures; None for the model's own.
        num_steps: N; strengths are k / N.
        max_kl: the most that adjacent distances may be apart from even.
        seed: draws sources, instructions and noise.
        share: (k, n): this folder holds items k, k + n, k + 2 n, ... of the whole.
    """

    model: str = "pocket"
    sources: str | None = None
    writer: str = "grammar"
    categories: tuple[str, ...] = tuple(CATEGORIES)
    morpher: str = "warp-fade"
    ends: str = RECONSTRUCTION
    distance: str = "ssim"
    size: int | None = None
    num_steps: int = 6
    max_kl: float = 0.15
    seed: int = 0
    share: tuple[int, int] = (0, 1)

    @property
    def strengths(self) -> list[float]:
        """k / N, k = 0..N."""
        return [k / self.num_steps for k in range(self.num_steps + 1)]


class Workspace:
    """Paths and pictures of one run's folder. Made by `open_workspace`."""

    def __init__(self, root: Path, recipe: Recipe):
        self.root, self.recipe = root, recipe

    def manifest(self, stage: str) -> Manifest:
        """What `stage` has done."""
        return Manifest(self.root / f"{stage}.jsonl")

    def save(self, kind: str, name: str, picture: Image.Image) -> None:
        """Write a picture of a `kind` (sources, edits, strips), whole or not at all."""
        (self.root / kind).mkdir(exist_ok=True)
        write_whole(self.root / kind / f"{name}.png", png_bytes(picture))

    def load(self, kind: str, name: str) -> Image.Image:
        """Read a picture back. UnreadableImage where it is missing."""
        return read_image(self.root / kind / f"{name}.png")

    def tiles(self, name: str) -> list[Image.Image]:
        """An item's strip: source, frames at strengths 0 .. 1, edit."""
        return split_strip(self.load("strips", name), self.recipe.num_steps + 3)


def open_workspace(root: Path, recipe: Recipe) -> Workspace:
    """A folder for this recipe, new or one that was begun with the same. InvalidInput where it was another."""
    open_run(root / RECIPE, asdict(recipe))
    return Workspace(root, recipe)


def reopen(root: Path) -> Workspace:
    """The folder of an earlier run with its recipe. InvalidInput where there is none."""
    path = root / RECIPE
    if not path.is_file():
        raise InvalidInput(f"{root} holds no data of 'kontext-slider data run'. Name the folder given there as --out.")
    values = read_run(path)
    try:
        return Workspace(root, Recipe(**values | {name: tuple(values[name]) for name in ("categories", "share")}))
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is of another version ({error}). Make the data anew in another folder.") from error


def join_strip(tiles: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size side by side."""
    width, height = tiles[0].size
    strip = Image.new("RGB", (width * len(tiles), height))
    for number, tile in enumerate(tiles):
        strip.paste(tile, (number * width, 0))
    return strip


def split_strip(strip: Image.Image, count: int) -> list[Image.Image]:
    """The `count` tiles of a strip. InvalidInput where its width is no multiple of that."""
    if strip.width % count:
        raise InvalidInput(f"A strip {strip.width} pixels wide cannot be {count} tiles. Check how many it was made of.")
    width = strip.width // count
    return [strip.crop((k * width, 0, (k + 1) * width, strip.height)) for k in range(count)]
