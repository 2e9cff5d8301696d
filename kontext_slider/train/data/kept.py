"""Which items of a run's folder are packed, and how each becomes a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.files import json_sha256
from kontext_slider.train.data.pack import Row
from kontext_slider.train.data.recipe import Recipe
from kontext_slider.train.data.scores import Scores, scores_of
from kontext_slider.train.data.workspace import STAGES, Workspace


@dataclass(frozen=True)
class KeptItem:
    """An item of a run's folder that is to be packed."""

    root: Path
    recipe: Recipe
    name: str  # in the run
    prefix: str
    words: tuple[str, str]  # instruction, category
    scores: Scores

    @property
    def id(self) -> str:
        return self.prefix + self.name

    def facts(self) -> Any:
        return [str(self.root), self.recipe.model_dump(mode="json"), self.id, self.words, asdict(self.scores)]

    def row(self) -> Row:
        recipe, tiles = self.recipe, Workspace(self.root, self.recipe).tiles(self.name)
        words = (*self.words, recipe.morpher, recipe.distance)
        return Row(self.id, tiles, recipe.strengths, *words, self.scores, recipe.pictures)


def kept_items(workspaces: Sequence[Workspace], unfiltered: bool = False) -> list[KeptItem]:
    """The items of several runs that went through all stages. Where the runs are of several recipes, shares apart, the
    items' names in the data set begin with a digest of theirs.

    unfiltered: as many items, drawn by the recipe's seed from all that the filter saw, its rejects included (the
    paper's ablation "without filtering")."""
    digests = [json_sha256(workspace.recipe.model_dump(mode="json", exclude={"share"})) for workspace in workspaces]
    items = []
    for workspace, digest in zip(workspaces, digests, strict=True):
        prefix = f"{digest[:8]}-" if len(set(digests)) > 1 else ""
        seen = [outcome for outcome in workspace.outcomes() if outcome.stage == STAGES[-1]]
        chosen = [outcome for outcome in seen if outcome.is_kept]
        if unfiltered:
            drawn = np.random.default_rng(workspace.recipe.seed).choice(len(seen), len(chosen), replace=False)
            chosen = [seen[number] for number in sorted(drawn)]
        for item in (outcome.item for outcome in chosen):
            words = item.facts["instruction"], item.facts["category"]
            root, recipe = workspace.root.resolve(), workspace.recipe
            items.append(KeptItem(root, recipe, item.id, prefix, words, scores_of(item.facts)))
    return items
