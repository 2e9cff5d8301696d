"""The paper's object-size set: one object on a black ground whose size changes with the strength.

The object is cut out by a mask: a PNG with transparency, a picture with a mask of the same name, or an object of a
synthetic scene. Its longest side at strength s is `first (last / first)^s`: equal steps of s change it by equal
factors. Every picture is exact, so nothing is filtered.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.batch import find_images
from kontext_slider.errors import InvalidInput
from kontext_slider.files import file_sha256
from kontext_slider.images import read_image, read_photo
from kontext_slider.metrics import to_image
from kontext_slider.train.data.instruct import draw_one
from kontext_slider.train.data.pack import Row
from kontext_slider.train.data.recipe import SCENES
from kontext_slider.world.scene import draw, draw_mask, random_scene

CATEGORY = "attribute_change"
LARGER = (
    "make the {} larger", "make the {} bigger", "enlarge the {}", "increase the size of the {}", "scale the {} up",
    "let the {} grow", "turn the {} into a larger one", "make the {} much bigger",
)  # fmt: skip
SMALLER = (
    "make the {} smaller", "shrink the {}", "reduce the size of the {}", "scale the {} down", "let the {} shrink",
    "turn the {} into a smaller one", "make the {} much smaller", "make the {} tiny",
)  # fmt: skip
SMALLEST, LARGEST = 0.12, 0.9  # of the picture's side: the object's longest side
RATIO = (1.6, 4.0)  # of the larger size to the smaller
MARGIN = 0.03  # of the picture's side, that stays black
LEAST = 48  # pixels of an object's longest side in its own picture
SHOWN = 128  # of a mask's 255, from which a pixel counts as the object's


@dataclass(frozen=True)
class CutOut:
    """A file with an object. `mask`: a picture that is white where the object is; None where the file has its own
    transparency."""

    picture: Path
    mask: Path | None
    digest: str

    @property
    def noun(self) -> str:
        """What the file's name says without its numbers: "red-car_03.png" shows a "red car"."""
        words = self.picture.stem.replace("_", " ").replace("-", " ").split()
        return " ".join(word for word in words if not word.isdigit()).lower() or "object"

    def read(self) -> Image.Image:
        """The object alone, RGBA. InvalidInput where it has no mask or is too small."""
        if self.mask is None:
            image = read_photo(self.picture).image
            if image.mode != "RGBA":
                raise InvalidInput(f"{self.picture.name} has no transparency. Give a PNG with some, or --masks.")
            return trimmed(image, image.getchannel("A"), self.picture.name)
        picture, mask = read_image(self.picture), read_image(self.mask).convert("L")
        if mask.size != picture.size:
            raise InvalidInput(f"{self.mask} has another size than its picture: {mask.size}, not {picture.size}.")
        return trimmed(picture, mask, self.picture.name)


def find_cut_outs(folder: Path, masks: Path | None) -> list[CutOut]:
    """The pictures of a folder in the order of their names, with the masks of the same names. InvalidInput where there
    are none, or one has no mask."""
    paths, problems = find_images([str(folder)])
    if not paths:
        raise InvalidInput(problems[0])
    found = {} if masks is None else {path.stem: path for path in find_images([str(masks)])[0]}
    lacking = [path.name for path in paths if masks is not None and path.stem not in found]
    if lacking:
        raise InvalidInput(f"{len(lacking)} pictures have no mask of the same name in {masks}, such as {lacking[0]}.")
    return [CutOut(path, found.get(path.stem), file_sha256(path)) for path in paths]


def trimmed(picture: Image.Image, mask: Image.Image, name: str) -> Image.Image:
    """The box that a mask shows, RGBA. InvalidInput for one of a few pixels."""
    box = mask.point(lambda value: 255 * (value >= SHOWN)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < LEAST:
        raise InvalidInput(f"The object in {name} has less than {LEAST} pixels on its longest side.")
    cut = picture.convert("RGB")
    cut.putalpha(mask)
    return cut.crop(box)


@dataclass(frozen=True)
class SizeRecipe:
    """What a set looks like, its cut-outs apart: side in pixels, steps N, seed, format of the pictures."""

    size: int = 512
    num_steps: int = 6
    seed: int = 0
    pictures: str = "jpeg"


@dataclass(frozen=True)
class SizedItem:
    """Sequence `number` of a set. `cut_out` None: an object of a synthetic scene."""

    recipe: SizeRecipe
    number: int
    cut_out: CutOut | None

    @property
    def id(self) -> str:
        return f"size-{self.number:07d}"

    def facts(self) -> Any:
        cut_out = None if self.cut_out is None else [self.cut_out.noun, self.cut_out.digest, str(self.cut_out.mask)]
        return [asdict(self.recipe), self.number, cut_out]

    def row(self) -> Row:
        recipe, rng = self.recipe, np.random.default_rng((self.recipe.seed, self.number, 3))
        thing, noun = (
            drawn_thing(rng, recipe.size) if self.cut_out is None else (self.cut_out.read(), self.cut_out.noun)
        )
        strengths = [k / recipe.num_steps for k in range(recipe.num_steps + 1)]
        first, last = draw_sizes(rng, min(LARGEST, 1.25 * max(thing.size) / recipe.size))
        words = draw_one(rng, LARGER if last > first else SMALLER).format(noun)
        centre = draw_centre(rng, thing, max(first, last))
        frames = [pasted(thing, first * (last / first) ** s, centre, recipe.size) for s in strengths]
        tiles = [frames[0], *frames, frames[-1]]
        return Row(self.id, tiles, strengths, words, CATEGORY, "pasted", "none", None, recipe.pictures)


def sized_items(cut_outs: str, masks: Path | None, count: int, recipe: SizeRecipe) -> list[SizedItem]:
    """`count` sequences, of the pictures in a folder in turn, or of "scenes". InvalidInput as `find_cut_outs`."""
    if cut_outs == SCENES:
        return [SizedItem(recipe, number, None) for number in range(count)]
    found = find_cut_outs(Path(cut_outs), masks)
    return [SizedItem(recipe, number, found[number % len(found)]) for number in range(count)]


def draw_sizes(rng: np.random.Generator, largest: float) -> tuple[float, float]:
    """The object's longest side at strengths 0 and 1, in shares of the picture's side, the larger at most `largest`."""
    ratio = rng.uniform(*RATIO)
    high = rng.uniform(min(SMALLEST * ratio, largest), largest)
    sizes = high / ratio, high
    return sizes if rng.random() < 0.5 else sizes[::-1]


def draw_centre(rng: np.random.Generator, thing: Image.Image, most: float) -> tuple[float, float]:
    """Where the object's centre is, in shares of the picture's sides, so that it is whole at its largest."""
    halves = [most * side / max(thing.size) / 2 + MARGIN for side in thing.size]
    return float(rng.uniform(halves[0], 1 - halves[0])), float(rng.uniform(halves[1], 1 - halves[1]))


def pasted(thing: Image.Image, share: float, centre: tuple[float, float], side: int) -> Image.Image:
    """The object (RGBA) on black, side x side, its longest side a `share` of that. Its edges are where they belong to a
    part of a pixel, so that it grows evenly."""
    scale = max(thing.size) / (share * side)  # of the object's own pixels to the picture's
    margin = math.ceil(scale)
    padded = Image.new("RGBA", (thing.width + 2 * margin, thing.height + 2 * margin))
    padded.paste(thing, (margin, margin))
    first = [at * side - own / scale / 2 for at, own in zip(centre, thing.size, strict=True)]
    low = [math.floor(value) for value in first]
    high = [math.ceil(value + own / scale) for value, own in zip(first, thing.size, strict=True)]
    box = [(edge - value) * scale + margin for edges in (low, high) for edge, value in zip(edges, first, strict=True)]
    small = padded.resize((high[0] - low[0], high[1] - low[1]), Image.Resampling.LANCZOS, (*box,))  # type: ignore[arg-type]
    picture = Image.new("RGB", (side, side))
    picture.paste(small, (low[0], low[1]), small)
    return picture


def drawn_thing(rng: np.random.Generator, side: int) -> tuple[Image.Image, str]:
    """The nearest object of a synthetic scene, RGBA, and what it is called. Small ones are passed over."""
    while True:
        scene = random_scene(rng)
        mask = draw_mask(scene, len(scene.things) - 1, side, side)
        with contextlib.suppress(InvalidInput):
            picture = to_image(draw(scene, side, side))
            thing = trimmed(picture, Image.fromarray(mask.astype(np.uint8) * 255), "the scene")
            return thing, scene.things[-1].kind
