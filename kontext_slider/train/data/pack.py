"""Strips as a Hugging Face data set: Parquet shards with pictures and words, and a card.

from datasets import load_dataset
data = load_dataset("OUT/packed", split="train")      # data[0]["frames"][3] is a picture, its strength ...
data[0]["strengths"][3]                               # ... 3 / N
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from PIL import Image
from tqdm import tqdm

from kontext_slider.errors import InvalidInput
from kontext_slider.files import put_in_place, write_whole
from kontext_slider.hub import CHECKSUMS
from kontext_slider.metrics.statistics import markdown
from kontext_slider.model_folder import write_checksums
from kontext_slider.train.data.scores import Scores, scores_of
from kontext_slider.train.data.workspace import STAGES, Workspace, png_bytes

try:
    import datasets
except ImportError as error:
    raise InvalidInput('Data sets need another package. Run: pip install "kontext-slider[train]"') from error

ROWS_PER_SHARD = 100  # a few hundred megabytes at 512 pixels
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
    """One strip with all that is known of it. `tiles`: source, frames at `strengths`, edit."""

    id: str
    tiles: list[Image.Image]
    strengths: list[float]
    instruction: str
    category: str
    morpher: str
    distance: str
    scores: Scores

    def columns(self) -> dict[str, Any]:
        """As FEATURES has them."""
        source, *frames, edit = ({"bytes": png_bytes(tile), "path": None} for tile in self.tiles)
        words = {name: getattr(self, name) for name in (*WORDS, "strengths")}
        return {**words, "source": source, "frames": frames, "edit": edit, "scores": asdict(self.scores)}


def kept_rows(workspace: Workspace, unfiltered: bool = False) -> Iterator[Row]:
    """The items that went through all stages as rows, their pictures read one item at a time.

    unfiltered: as many items, drawn by the recipe's seed from all that the filter saw, its rejects included (the
    paper's ablation "without filtering")."""
    recipe, seen = workspace.recipe, [outcome for outcome in workspace.outcomes() if outcome.stage == STAGES[-1]]
    chosen = [outcome for outcome in seen if outcome.is_kept]
    if unfiltered:
        drawn = np.random.default_rng(recipe.seed).choice(len(seen), len(chosen), replace=False)
        chosen = [seen[number] for number in sorted(drawn)]
    for item in (outcome.item for outcome in chosen):
        words = (item.facts["instruction"], item.facts["category"], recipe.morpher, recipe.distance)
        yield Row(item.id, workspace.tiles(item.id), recipe.strengths, *words, scores_of(item.facts))


def write_dataset(rows: Iterable[Row], folder: Path, title: str, rows_per_shard: int = ROWS_PER_SHARD) -> int:
    """Write rows as `folder`/data/train-K-of-M.parquet with a card; returns how many.

    An older data set is replaced, once the new one is complete. InvalidInput where there is no row, and, before any is
    read, where the folder holds anything else (`check_place`)."""
    folder = folder.resolve()
    check_place(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "data").mkdir(parents=True)
    shards, categories = list[Path](), Counter[str]()
    waiting = iter(tqdm(rows, desc="pack", unit="item", leave=False))
    while chunk := list(islice(waiting, rows_per_shard)):
        shards.append(partial / "data" / f"shard-{len(shards):05d}.parquet")
        table = datasets.Dataset.from_list([row.columns() for row in chunk], features=FEATURES).data.table
        pyarrow.parquet.write_table(table, shards[-1])
        categories.update(row.category for row in chunk)
    if not shards:
        shutil.rmtree(partial)
        raise InvalidInput(f"There is nothing to pack for {folder}: no item was kept. Its report says why.")
    for number, shard in enumerate(shards):
        os.replace(shard, shard.with_name(f"train-{number:05d}-of-{len(shards):05d}.parquet"))
    write_checksums(partial, (file.relative_to(partial).as_posix() for file in (partial / "data").iterdir()))
    write_whole(partial / "README.md", card(title, categories).encode())
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    put_in_place(partial, folder)
    shutil.rmtree(old, ignore_errors=True)
    return categories.total()


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
