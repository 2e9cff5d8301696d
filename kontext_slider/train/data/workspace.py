"""The folder of a run: its recipe, what each stage has done with each item, and the pictures.

recipe.json                       what the data is made by; a folder holds the data of one recipe
instruct.jsonl ... filter.jsonl   the manifest of each stage: one JSON line per item
sources/ID.png  edits/ID.png      the source at working size, the full edit
strips/ID.png                     source, frames at strengths 0 .. 1, edit: tiles of one size side by side
packed/  report/                  made anew from the above

A kill can come between any two bytes. A picture is renamed into place when it is complete, its line is appended after
that, and a truncated line counts for nothing: its item is done again, with the same result.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

from kontext_slider.errors import InvalidInput
from kontext_slider.files import append_json_line, make_folder, open_run, read_json_lines, read_run, write_whole
from kontext_slider.images import read_image
from kontext_slider.train.data.categories import CATEGORIES

STAGES = ("instruct", "edit", "morph", "score", "filter")
RECONSTRUCTION, TRUE = ENDS = ("reconstruction", "true")
DONE, REJECTED = "done", "rejected"
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """All that decides what the data looks like, apart from how many items there are.

    Attributes:
        model: the editing model: a preset, a folder or a hub id.
        sources: a folder of pictures; None for drawn ones.
        writer: "grammar", or a vision-language model (folder or hub id).
        categories: kinds of edits to draw from.
        morpher: a name of `morph.MORPHERS`, or "freemorph".
        ends: frames 0 and N are the morpher's reconstructions (the paper) or the true source and edit.
        distance: a name of `features.DISTANCES`, behind scores and filter.
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


class Rejected(Exception):
    """An item that goes no further. `reason` is one of few words, to be counted; `detail` says more."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


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
    """One run's folder. Made by `open_workspace`."""

    def __init__(self, root: Path, recipe: Recipe):
        self.root, self.recipe = root, recipe

    def manifest(self, stage: str) -> Path:
        return self.root / f"{stage}.jsonl"

    def records(self, stage: str) -> dict[str, dict[str, Any]]:
        """id -> what `stage` has recorded, in the order in which it was written; the first record of an id counts."""
        records: dict[str, dict] = {}
        for record in read_json_lines(self.manifest(stage)):
            if isinstance(record, dict) and isinstance(record.get("id"), str):
                records.setdefault(record["id"], record)
        return records

    def run_stage(self, name: str, items: Iterable[Item], stage: Stage) -> list[Item]:
        """Do what is not done yet and return the items that go on, with their facts."""
        records, going_on = self.records(name), []
        for item in tqdm(list(items), desc=name, unit="item", leave=False):
            record = records.get(item.id)
            if record is None:
                record = {"id": item.id, **_result(stage, item)}
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
                reason = None if record["state"] == DONE else record["reason"]
                found[name] = Outcome(Item(int(name), facts), stage, reason)
        return [found[name] for name in sorted(found)]

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


def _result(stage: Stage, item: Item) -> dict[str, Any]:
    try:
        return {"state": DONE, **stage(item)}
    except Rejected as rejection:
        return {"state": REJECTED, "reason": rejection.reason, "detail": rejection.detail}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its id and state."""
    return {name: value for name, value in record.items() if name not in ("id", "state")}


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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lifts the lock even after a kill. InvalidInput if one is in there, or
    the folder cannot be made."""
    make_folder(folder)
    try:
        lock = FileLock(folder / ".lock", blocking=False).acquire()
    except Timeout as error:
        raise InvalidInput(
            f"Another run is at work in {folder}. Wait for it to end, or choose another folder with --out."
        ) from error
    with lock:
        yield


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


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
