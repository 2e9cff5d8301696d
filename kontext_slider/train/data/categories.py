"""The paper's kinds of edits: what a writer of instructions needs to know about each, and examples to draw from.

The words, in categories.json, are this repository's own. An edit must be one that can be done by half, since a slider
stops anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from kontext_slider.errors import InvalidInput


@dataclass(frozen=True)
class Category:
    """`whole`: of the whole picture, else of one thing in it. `task` and `avoid` go into the system prompt."""

    name: str
    whole: bool
    task: str
    avoid: str
    examples: tuple[str, ...]


def _read() -> dict[str, Category]:
    rows = json.loads(Path(__file__).with_name("categories.json").read_text(encoding="utf-8"))
    return {name: Category(**row | {"name": name, "examples": tuple(row["examples"])}) for name, row in rows.items()}


CATEGORIES = _read()


def check_categories(names: Collection[str]) -> tuple[str, ...]:
    """InvalidInput for an empty list and for a category that does not exist."""
    unknown = [name for name in names if name not in CATEGORIES]
    if unknown or not names:
        raise InvalidInput(f"The categories are {', '.join(CATEGORIES)}, not {', '.join(unknown) or 'none'}.")
    return tuple(dict.fromkeys(names))
