"""Examples with pictures: `assets/examples/examples.json`, or none when it is absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kontext_slider.shipped import shipped

EXAMPLES = shipped("assets/examples") / "examples.json"


@dataclass(frozen=True)
class Example:
    """A picture, an instruction for it, and whom the picture is owed to."""

    image: Path
    instruction: str
    source: str


def read_examples(path: Path = EXAMPLES) -> list[Example]:
    """The examples listed in `path`, pictures found beside it. An absent list is empty."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Example(path.parent / row["image"], row["instruction"], row.get("source", "")) for row in rows]


def credits(examples: list[Example]) -> str:
    """One line that names every source once, in order."""
    return "; ".join(dict.fromkeys(example.source for example in examples if example.source))
