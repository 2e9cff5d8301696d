"""The authors' file format as rows of ours: a PNG of nine square tiles per edit, and one JSON list for all.

Tiles: source, its reconstruction, five morphs, the edit's reconstruction, edit. File names: `<stem>_nsamples_7.png`.
The list's fields that are not in `Entry` are not needed here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image
from kontext_slider.train.config import parse
from kontext_slider.train.data.pack import Row
from kontext_slider.train.data.scores import Scores, kl_from_even
from kontext_slider.train.data.workspace import split_strip

NUM_TILES = 9
NUM_FRAMES = NUM_TILES - 2
SUFFIX = f"_nsamples_{NUM_FRAMES}"


class Entry(BaseModel):
    """What the list says of one strip. `edit_instruction` has underscores for spaces; `lpips_sequence` are the adjacent
    distances of the tiles."""

    image_name: str
    category: str
    edit_instruction: str
    lpips_kontext_edit: float
    lpips_edit_inversion: float
    lpips_sequence: Annotated[list[float], Field(min_length=NUM_TILES - 1, max_length=NUM_TILES - 1)]


@dataclass(frozen=True)
class Strip:
    """An entry of a folder in the authors' format."""

    folder: Path
    number: int  # in the list
    entry: Entry

    @property
    def id(self) -> str:
        return Path(self.entry.image_name).stem.removesuffix(SUFFIX)

    def facts(self) -> Any:
        return [str(self.folder), self.entry.model_dump(mode="json")]

    def row(self) -> Row:
        try:
            return _row(self.folder, self.id, self.entry)
        except InvalidInput as error:
            raise InvalidInput(f"entry {self.number}: {error}") from error


def open_strips(folder: Path, listing: Path | None = None) -> tuple[list[Strip], list[str]]:
    """The strips of a folder, and a sentence for each entry that cannot be used. `listing`: the JSON list, where the
    folder does not hold just one. InvalidInput without."""
    found = [listing] if listing is not None else sorted(folder.glob("*.json"))
    if len(found) != 1:
        raise InvalidInput(f"{folder} holds {len(found)} JSON files where one is wanted. Name it with --list.")
    try:
        entries = json.loads(found[0].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{found[0]} cannot be read as JSON ({error}). Check the file.") from error
    if not isinstance(entries, list) or not entries:
        raise InvalidInput(f"{found[0]} holds no list of edits. Name the list that belongs to the strips.")
    strips, problems = dict[str, Strip](), list[str]()
    for number, entry in enumerate(entries):
        try:
            strip = Strip(folder.resolve(), number, parse(Entry, entry))
        except InvalidInput as error:
            problems.append(f"entry {number}: {error}")
            continue
        if strips.setdefault(strip.id, strip) is not strip:
            problems.append(f"entry {number}: {strip.id} is in the list twice. The first counts.")
    return list(strips.values()), problems


def _row(folder: Path, stem: str, entry: Entry) -> Row:
    strip = read_image(folder / f"{stem}{SUFFIX}.png")
    if strip.width != NUM_TILES * strip.height:
        raise InvalidInput(f"{stem}{SUFFIX}.png is {strip.width} x {strip.height}, not {NUM_TILES} square tiles.")
    first, *steps, _ = entry.lpips_sequence
    scores = Scores(
        entry.lpips_kontext_edit, entry.lpips_edit_inversion, first, tuple(steps), kl_from_even(steps), None
    )
    return Row(
        id=stem,
        tiles=split_strip(strip, NUM_TILES),
        strengths=[k / (NUM_FRAMES - 1) for k in range(NUM_FRAMES)],
        instruction=entry.edit_instruction.replace("_", " ").strip(),
        category=entry.category.strip().lower().replace(" ", "_"),
        morpher="free-morph",
        distance="lpips",
        scores=scores,
    )
