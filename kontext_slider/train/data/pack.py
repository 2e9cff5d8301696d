"""Strips as a Hugging Face data set: Parquet shards with pictures and words, and a card.

from datasets import load_dataset
data = load_dataset("OUT/packed", split="train")      # data[0]["frames"][3] is a picture, its strength ...
data[0]["strengths"][3]                               # ... 3 / N

Several processes write a shard each. A shard is put in its place when it is whole, with a note of what it holds, under
a name that is a digest of all that it is made of. So a pack that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet
from PIL import Image
from tqdm import tqdm

from kontext_slider.errors import InvalidInput
from kontext_slider.files import json_sha256, put_in_place, read_json_lines, write_whole
from kontext_slider.hub import CHECKSUMS
from kontext_slider.metrics.statistics import markdown
from kontext_slider.model_folder import write_checksums
from kontext_slider.run_folder import LOCK, alone_in
from kontext_slider.threads import end_with_parent
from kontext_slider.train.data.scores import Scores
from kontext_slider.train.data.workspace import picture_bytes

try:
    import datasets
except ImportError as error:
    raise InvalidInput('Data sets need another package. Run: pip install "kontext-slider[train]"') from error

ROWS_PER_SHARD = 100  # some hundred megabytes at 512 pixels as PNG, a hundred as JPEG
ROWS_PER_GROUP = 10  # the least that is read at once
WORTH_PROCESSES = 4  # shards, from which starting processes pays
WORDS = ("id", "instruction", "category", "morpher", "distance")
FEATURES = datasets.Features({
    **{name: datasets.Value("string") for name in WORDS},
    "source": datasets.Image(),
    "edit": datasets.Image(),
    "frames": datasets.List(datasets.Image()),  # N + 1
    "strengths": datasets.List(datasets.Value("float32")),  # N + 1
    "scores": {
        **{field.name: datasets.Value("float32") for field in fields(Scores)},
        "steps": datasets.List(datasets.Value("float32")),  # N
    },
})  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One strip with all that is known of it. `tiles`: source, frames at `strengths`, edit. `pictures`: the format that
    they are written in, as of `Recipe`."""

    id: str
    tiles: list[Image.Image]
    strengths: list[float]
    instruction: str
    category: str
    morpher: str
    distance: str
    scores: Scores | None
    pictures: str = "png"

    def columns(self) -> dict[str, Any]:
        """As FEATURES has them."""
        source, *frames, edit = ({"bytes": picture_bytes(tile, self.pictures), "path": None} for tile in self.tiles)
        words = {name: getattr(self, name) for name in (*WORDS, "strengths")}
        scores = None if self.scores is None else asdict(self.scores)
        return {**words, "source": source, "frames": frames, "edit": edit, "scores": scores}


class Packable(Protocol):
    """What a row is made of, in a few values that another process can be sent."""

    @property
    def id(self) -> str: ...

    def facts(self) -> Any:
        """All that decides what the row is, as JSON."""

    def row(self) -> Row:
        """InvalidInput for one that cannot be used."""


@dataclass(frozen=True)
class Packed:
    """How many rows a data set has, and a sentence for each one that could not be used."""

    count: int
    problems: list[str]


@dataclass(frozen=True)
class Shard:
    """A shard to write. Beside `path`, when it is whole, stands its note: a line of JSON."""

    path: Path
    items: list[Packable]

    @property
    def note(self) -> Path:
        return self.path.with_suffix(".json")

    def read_note(self) -> dict[str, Any] | None:
        """What the shard holds; None where it is not whole."""
        lines = read_json_lines(self.note)
        return lines[0] if lines else None

    def write(self) -> None:
        """Make the rows, write the shard and its note. One without a usable row is a note alone."""
        rows, problems = list[Row](), list[str]()
        for item in self.items:
            try:
                rows.append(item.row())
            except InvalidInput as error:
                problems.append(str(error))
        if rows:
            partial = self.path.with_suffix(f".{os.getpid()}.part")
            table = datasets.Dataset.from_list([row.columns() for row in rows], features=FEATURES).data.table
            pyarrow.parquet.write_table(table, partial, row_group_size=ROWS_PER_GROUP)
            put_in_place(partial, self.path)
        note = {"categories": Counter(row.category for row in rows), "problems": problems}
        write_whole(self.note, json.dumps(note).encode())


def write_dataset(
    items: Iterable[Packable],
    folder: Path,
    title: str,
    rows_per_shard: int = ROWS_PER_SHARD,
    processes: int | None = None,
) -> Packed:
    """Write rows as `folder`/data/train-K-of-M.parquet with a card; `processes` at a time (default: as many as there
    are cores).

    An older data set is replaced, once the new one is complete. Until then what is done stands in `.NAME.partial`
    beside it, and is taken from there when the same is packed again. InvalidInput where there is no row, where two have
    one name, and, before any is made, where the folder holds anything else (`check_place`) or another pack is at work.
    """
    folder = folder.resolve()
    check_place(folder)
    items = list(items)
    check_names(items)
    partial = folder.with_name(f".{folder.name}.partial")
    with alone_in(partial):
        packed = _write_partial(items, partial, folder, title, rows_per_shard, processes)
        (partial / LOCK).unlink()
        replace_dataset(partial, folder)
    return packed


def _write_partial(
    items: Sequence[Packable], partial: Path, folder: Path, title: str, rows_per_shard: int, processes: int | None
) -> Packed:
    """The data set of `folder`, complete, in `partial`."""
    shards = plan_shards(items, partial / "data", rows_per_shard)
    (partial / "data").mkdir(parents=True, exist_ok=True)
    kept = {partial / LOCK, *(path for shard in shards for path in (shard.path, shard.note))}
    for file in set(partial.rglob("*")) - kept:
        if file.is_file():  # of another pack, or half a shard
            file.unlink()
    write_shards([shard for shard in shards if shard.read_note() is None], processes)
    notes = [shard.read_note() or {} for shard in shards]
    categories = Counter[str]()
    for note in notes:
        categories.update(note["categories"])
    problems = [problem for note in notes for problem in note["problems"]]
    if not categories:
        shutil.rmtree(partial)
        raise InvalidInput(f"There is nothing to pack for {folder}: no item was kept. Its report says why.")
    for shard in shards:
        shard.note.unlink()
    name_in_order([shard.path for shard in shards if shard.path.exists()])
    write_checksums(partial, (file.relative_to(partial).as_posix() for file in (partial / "data").iterdir()))
    write_whole(partial / "README.md", card(title, categories).encode())
    return Packed(categories.total(), problems)


def check_names(items: Sequence[Packable]) -> None:
    """InvalidInput where two items have one name."""
    doubled = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if doubled:
        raise InvalidInput(
            f"{len(doubled)} edits would be in the data set twice, such as {doubled[0]}: the folders' shares overlap, "
            "or a folder is named twice. Name each share once."
        )


def plan_shards(items: Sequence[Packable], folder: Path, rows_per_shard: int) -> list[Shard]:
    """The shards in order, each named by a digest of what it is made of."""
    shards = []
    for number, first in enumerate(range(0, len(items), rows_per_shard)):
        chunk = list(items[first : first + rows_per_shard])
        digest = json_sha256([str(FEATURES), [item.facts() for item in chunk]])[:16]
        shards.append(Shard(folder / f"shard-{number:05d}-{digest}.parquet", chunk))
    return shards


def write_shards(shards: Sequence[Shard], processes: int | None) -> None:
    """Write them, by several processes where that pays."""
    workers = min(processes or num_cores(), len(shards))
    bar = tqdm(total=len(shards), desc="pack", unit="shard", leave=False)
    if workers < 2 or (processes is None and len(shards) < WORTH_PROCESSES):
        for shard in shards:
            shard.write()
            bar.update()
        return
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")  # forks can hang
    context.set_forkserver_preload([__name__])  # the libraries are imported once for all
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        try:
            for done in as_completed([pool.submit(shard.write) for shard in shards]):
                done.result()
                bar.update()
        except BrokenProcessPool as error:
            raise InvalidInput(
                "A process that packs was stopped, perhaps for lack of memory. The same command goes on; give it fewer "
                "--processes."
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def name_in_order(shards: Sequence[Path]) -> None:
    """Give the files the names that `load_dataset` puts in order."""
    for number, shard in enumerate(shards):
        os.replace(shard, shard.with_name(f"train-{number:05d}-of-{len(shards):05d}.parquet"))


def replace_dataset(new: Path, folder: Path) -> None:
    """Put a complete data set in the place of an older one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    put_in_place(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def check_place(folder: Path) -> None:
    """InvalidInput unless a data set may be written in the place of `folder`: it is missing, empty, or holds nothing
    but an older data set."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return  # nothing is lost
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    shards = list((folder / "data").glob("*"))
    if (
        names - {CHECKSUMS} != {"README.md", "data"}
        or not shards
        or not all(shard.match("train-*.parquet") for shard in shards)
    ):
        raise InvalidInput(
            f"{folder} is neither empty nor an older data set, and a new one would take its place. Name an empty "
            "folder, or one that does not exist yet."
        )


def card(title: str, categories: Counter[str]) -> str:
    """The data set's README, with the header that the hub and `load_dataset` read."""
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n\n"
        f"# {title}\n\n{categories.total()} edits, each as pictures at rising strengths: `frames[k]` is the edit of "
        "`source` by `instruction` at `strengths[k]`, from 0 to 1. `edit` is the editing model's own result, `scores` "
        "are distances by `distance`: `steps[k]` between frames k and k + 1, `kl` their divergence from even steps.\n\n"
        f"{markdown(('category', 'edits'), sorted(categories.items()))}\n"
    )
