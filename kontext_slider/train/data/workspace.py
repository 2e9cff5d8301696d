"""The folder of a run: its recipe, what each stage has done with each item, and the pictures.

recipe.json                       what the data is made by; a folder holds the data of one recipe
instruct.jsonl ... filter.jsonl   the manifest of each stage: one JSON line per item
sources/ID.png  edits/ID.png      the source at working size, the full edit
strips/ID.png (or .jpg)           source, frames at strengths 0 .. 1, edit: tiles of one size side by side
packed/  report/                  made anew from the above

A kill can come between any two bytes. A picture is renamed into place when it is complete, its line is appended after
that, and a truncated line counts for nothing: its item is done again, with the same result.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from tqdm import tqdm

from kontext_slider.errors import InvalidInput
from kontext_slider.files import append_json_line, read_json_lines, write_whole
from kontext_slider.images import read_image
from kontext_slider.run_folder import open_run, read_run
from kontext_slider.train.config import parse
from kontext_slider.train.data.instruct import Written
from kontext_slider.train.data.recipe import Recipe, Rejected
from kontext_slider.train.data.scores import Scores

STAGES = ("instruct", "edit", "morph", "score", "filter")
DONE, REJECTED = "done", "rejected"
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Item:
    """Item `index` of the whole data set; `facts` is what the stages so far have recorded about it."""

    index: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name in manifests and of its files."""
        return f"{self.index:07d}"


@dataclass(frozen=True)
class Outcome:
    """An item and the last stage that saw it; `reason` of its rejection there, or None."""

    item: Item
    stage: str
    reason: str | None

    @property
    def is_kept(self) -> bool:
        """Whether it went through all stages."""
        return self.stage == STAGES[-1] and self.reason is None


Stage = Callable[[Item], dict[str, Any]]  # writes the item's picture, if it makes one; returns facts, raises Rejected


class Workspace:
    """One run's folder. Made by `open_workspace`. facts: what each stage records of an item that goes on."""

    def __init__(self, root: Path, recipe: Recipe, facts: Mapping[str, TypeAdapter] | None = None):
        self.root, self.recipe, self._facts = root, recipe, facts or {}

    def manifest(self, stage: str) -> Path:
        return self.root / f"{stage}.jsonl"

    def records(self, stage: str) -> dict[str, dict[str, Any]]:
        """id -> what `stage` has recorded, in the order in which it was written; the first record of an id counts. A
        line that is none of the stage's records counts for nothing."""
        records: dict[str, dict] = {}
        for record in read_json_lines(self.manifest(stage)):
            if self._is_record(record, stage):
                records.setdefault(record["id"], record)
        return records

    def _is_record(self, value: Any, stage: str) -> bool:
        try:
            record = Record.model_validate(value, strict=True)
            if record.state == DONE and stage in self._facts:
                self._facts[stage].validate_json(json.dumps(value), strict=True)
        except ValidationError:
            return False
        return record.state == DONE or record.reason is not None

    def run_stage(self, name: str, items: Iterable[Item], stage: Stage) -> list[Item]:
        """Do what is not done yet and return the items that go on, with their facts."""
        records, going_on = self.records(name), []
        for item in tqdm(list(items), desc=name, unit="item", leave=False):
            record = records.get(item.id)
            if record is None:
                try:
                    record = {"id": item.id, "state": DONE, **stage(item)}
                except Rejected as why:
                    record = {"id": item.id, "state": REJECTED, "reason": why.reason, "detail": why.detail}
                append_json_line(self.manifest(name), record)
            if record["state"] == DONE:
                going_on.append(Item(item.index, item.facts | facts_of(record)))
        return going_on

    def outcomes(self) -> list[Outcome]:
        """Of every item that any stage has seen, in order."""
        found: dict[str, Outcome] = {}
        for stage in STAGES:
            for name, record in self.records(stage).items():
                facts = (found[name].item.facts if name in found else {}) | facts_of(record)
                found[name] = Outcome(Item(int(name), facts), stage, record.get("reason"))
        return [found[name] for name in sorted(found)]

    def picture(self, kind: str, name: str) -> Path:
        """The file of an item's picture of a `kind`: sources, edits, strips."""
        suffix = ".jpg" if kind == "strips" and self.recipe.pictures == "jpeg" else ".png"
        return self.root / kind / (name + suffix)

    def save(self, kind: str, name: str, picture: Image.Image) -> None:
        """Write a picture, whole or not at all."""
        (self.root / kind).mkdir(exist_ok=True)
        pictures = self.recipe.pictures if kind == "strips" else "png"
        write_whole(self.picture(kind, name), picture_bytes(picture, pictures))

    def load(self, kind: str, name: str) -> Image.Image:
        """Read a picture back. UnreadableImage where it is missing."""
        return read_image(self.picture(kind, name))

    def tiles(self, name: str) -> list[Image.Image]:
        """An item's strip: source, frames at strengths 0 .. 1, edit."""
        return split_strip(self.load("strips", name), self.recipe.num_steps + 3)


class Record(BaseModel):
    """What every stage writes of an item, besides its facts."""

    id: str = Field(pattern=r"^[0-9]{7,12}$")
    state: Literal["done", "rejected"]
    reason: str | None = None


class Edited(BaseModel):
    """Facts of the stage "edit"."""

    noise_seed: int = Field(ge=0)


FACTS: dict[str, TypeAdapter] = {
    "instruct": TypeAdapter(Written),
    "edit": TypeAdapter(Edited),
    "score": TypeAdapter(Scores),
}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its id and state."""
    return {name: value for name, value in record.items() if name not in ("id", "state")}


def open_workspace(root: Path, recipe: Recipe) -> Workspace:
    """A folder for this recipe, new or one that was begun with the same. InvalidInput where it was another."""
    open_run(root / RECIPE, recipe.model_dump(mode="json"))
    return Workspace(root, recipe, FACTS)


def reopen(root: Path) -> Workspace:
    """The folder of an earlier run with its recipe. InvalidInput where there is none."""
    if not (root / RECIPE).is_file():
        raise InvalidInput(f"{root} holds no data of 'kontext-slider data run'. Name the folder given there as --out.")
    return open_workspace(root, parse(Recipe, read_run(root / RECIPE)))


# JPEG of quality 95 without chroma subsampling: 109 kB at 512 pixels where PNG has 367, at 45.4 dB (least 42.7), 45.3
# when it is written twice (`benchmarks/size_on_paper.py --formats`).
SAVED_AS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


def picture_bytes(picture: Image.Image, pictures: str = "png") -> bytes:
    """A picture as the bytes of a file, of the format `Recipe.pictures`."""
    buffer = io.BytesIO()
    picture.save(buffer, **SAVED_AS[pictures])
    return buffer.getvalue()


def join_strip(tiles: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height side by side."""
    strip = Image.new("RGB", (sum(tile.width for tile in tiles), tiles[0].height), "white")
    left = 0
    for tile in tiles:
        strip.paste(tile, (left, 0))
        left += tile.width
    return strip


def split_strip(strip: Image.Image, count: int) -> list[Image.Image]:
    """The `count` tiles of a strip. InvalidInput where its width is no multiple of that."""
    if strip.width % count:
        raise InvalidInput(f"A strip {strip.width} pixels wide cannot be {count} tiles. Check how many it was made of.")
    width = strip.width // count
    return [strip.crop((k * width, 0, (k + 1) * width, strip.height)) for k in range(count)]
