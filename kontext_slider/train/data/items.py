"""An item on its way through the stages, and the loop that runs one stage over all items that are not done.

A stage is a function of one item: it writes its picture, if it makes one, and returns what is to be remembered. An
item that it cannot use it rejects, with a reason from a short list (to be counted) and a detail (to be read).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from kontext_slider.train.data.manifest import Manifest

DONE, REJECTED = "done", "rejected"


class Rejected(Exception):
    """An item that goes no further. `reason` is one of few words, `detail` says more."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Item:
    """Item `index` of the whole data set; `facts` is what the stages before have found out about it."""

    index: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name in manifests and of its files."""
        return f"{self.index:07d}"


Stage = Callable[[Item], dict[str, Any]]


def run_stage(name: str, items: Iterable[Item], stage: Stage, manifest: Manifest) -> list[Item]:
    """Do what is not done yet and return the items that go on, with their facts."""
    records, going_on = manifest.read(), []
    for item in tqdm(list(items), desc=name, unit="item", leave=False):
        record = records.get(item.id)
        if record is None:
            record = {"id": item.id, **_outcome(stage, item)}
            manifest.append(record)
        if record["state"] == DONE:
            going_on.append(Item(item.index, item.facts | facts_of(record)))
    return going_on


def _outcome(stage: Stage, item: Item) -> dict[str, Any]:
    try:
        return {"state": DONE, **stage(item)}
    except Rejected as rejection:
        return {"state": REJECTED, "reason": rejection.reason, "detail": rejection.detail}


def facts_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says of its item, without the record's own bookkeeping."""
    return {name: value for name, value in record.items() if name not in ("id", "state")}
