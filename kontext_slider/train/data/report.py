"""What came of a run: counts per stage, category and reason, distances, and strips to look at, kept and rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kontext_slider.files import write_whole
from kontext_slider.train.data.filter import THRESHOLDS
from kontext_slider.train.data.items import DONE, Item, facts_of
from kontext_slider.train.data.manifest import png_bytes
from kontext_slider.train.data.stages import scores_of
from kontext_slider.train.data.workspace import STAGES, Workspace

ROWS_PER_SHEET = 24
TILE, GAP, TEXT = 96, 4, 14  # pixels: a tile's height, between rows, a line of words


@dataclass(frozen=True)
class Fate:
    """An item and where it ended: `stage` and `reason` of its rejection, or the last stage and None."""

    item: Item
    stage: str
    reason: str | None


def fates(workspace: Workspace) -> list[Fate]:
    """Every item that any stage has seen, in order."""
    found: dict[str, Fate] = {}
    for stage in STAGES:
        for name, record in workspace.manifest(stage).read().items():
            facts = (found[name].item.facts if name in found else {}) | facts_of(record)
            reason = None if record["state"] == DONE else record["reason"]
            found[name] = Fate(Item(int(name), facts), stage, reason)
    return [found[name] for name in sorted(found)]


def write_report(workspace: Workspace, command: str) -> Path:
    """`report/report.md` with `kept.png` and `rejected.png`; returns the folder."""
    folder, ends = workspace.root / "report", fates(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [fate for fate in ends if fate.stage == STAGES[-1] and fate.reason is None]
    rejected = [fate for fate in ends if fate.reason is not None]
    parts = ["# Data of a run", f"`{command}`", _stage_table(ends), _category_table(ends)]
    parts.append("## Reasons\n\n" + _table(("stage", "reason", "items"), _reasons(rejected)))
    parts.append(_distance_table(workspace, ends))
    for name, group in (("kept", kept), ("rejected", rejected)):
        shown = [fate for fate in group if (workspace.root / "sources" / f"{fate.item.id}.png").exists()]
        if shown:
            write_whole(folder / f"{name}.png", png_bytes(contact_sheet(workspace, _spread(shown))))
            parts.append(f"## {name.capitalize()}\n\n![{name}]({name}.png)")
    write_whole(folder / "report.md", ("\n\n".join(parts) + "\n").encode())
    return folder


def _stage_table(ends: Sequence[Fate]) -> str:
    rows = []
    for number, stage in enumerate(STAGES):
        reached = [fate for fate in ends if STAGES.index(fate.stage) >= number]
        lost = sum(fate.stage == stage and fate.reason is not None for fate in reached)
        rows.append((stage, len(reached), len(reached) - lost, lost))
    return "## Stages\n\n" + _table(("stage", "items", "go on", "rejected"), rows)


def _category_table(ends: Sequence[Fate]) -> str:
    groups: dict[str, list[Fate]] = {}
    for fate in ends:
        groups.setdefault(fate.item.facts.get("category", "(none)"), []).append(fate)
    rows = []
    for name, group in sorted(groups.items()):
        lost = sum(fate.reason is not None for fate in group)
        kept = sum(fate.reason is None and fate.stage == STAGES[-1] for fate in group)
        rows.append((name, len(group), kept, lost, f"{kept / len(group):.0%}"))
    return "## Categories\n\n" + _table(("category", "items", "kept", "rejected", "share kept"), rows)


def _reasons(rejected: Iterable[Fate]) -> list[tuple]:
    counts = Counter((fate.stage, fate.reason) for fate in rejected)
    return [(*key, count) for key, count in counts.most_common()]


def _distance_table(workspace: Workspace, ends: Sequence[Fate]) -> str:
    """Quantiles of the scores per category, beside the thresholds that were used."""
    scored = [fate.item.facts for fate in ends if "kl" in fate.item.facts]
    limits, rows = THRESHOLDS.get(workspace.recipe.distance, {}), []
    for category in sorted({facts["category"] for facts in scored}):
        group = [scores_of(facts) for facts in scored if facts["category"] == category]
        limit = limits.get(category)
        rows.append((
            category,
            _quantiles([scores.source_edit for scores in group]),
            f"{limit.least_edit:g}" if limit else "-",
            _quantiles([scores.edit_reconstruction for scores in group]),
            f"{limit.most_loss:g}" if limit else "-",
            _quantiles([scores.kl for scores in group]),
        ))  # fmt: skip
    heads = ("category", "d(source, edit)", "at least", "d(edit, reconstruction)", "at most", "KL")
    return f"## Distances\n\n`{workspace.recipe.distance}`: 2 %, 50 % and 98 % of the items.\n\n{_table(heads, rows)}"


def _quantiles(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in np.quantile(values, (0.02, 0.5, 0.98)))


def _table(heads: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _spread(group: Sequence[Fate]) -> list[Fate]:
    """At most ROWS_PER_SHEET, evenly over the run."""
    count = min(len(group), ROWS_PER_SHEET)
    return [group[round(k)] for k in np.linspace(0, len(group) - 1, count)]


def contact_sheet(workspace: Workspace, shown: Sequence[Fate]) -> Image.Image:
    """A row per item: a line of words, and its strip (or what there is of it), tiles TILE pixels high."""
    rows = [(_caption(fate), _pictures(workspace, fate.item.id)) for fate in shown]
    scaled = [[_scaled(picture) for picture in pictures] for _, pictures in rows]
    width = max(sum(picture.width + 2 for picture in pictures) for pictures in scaled)
    sheet = Image.new("RGB", (width, len(rows) * (TILE + TEXT + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, ((caption, _), pictures) in enumerate(zip(rows, scaled, strict=True)):
        top, left = number * (TILE + TEXT + GAP), 0
        pen.text((2, top), caption, fill="black", font=font)
        for picture in pictures:
            sheet.paste(picture, (left, top + TEXT))
            left += picture.width + 2
    return sheet


def _caption(fate: Fate) -> str:
    facts = fate.item.facts
    words = f"{fate.item.id}  {facts.get('category', '')}: {facts.get('instruction', '')}"
    if "kl" in facts:
        words += f"  (KL {facts['kl']:.3f})"
    return f"{words}  {fate.reason}. {facts.get('detail', '')}" if fate.reason else words


def _pictures(workspace: Workspace, name: str) -> list[Image.Image]:
    if (workspace.root / "strips" / f"{name}.png").exists():
        return workspace.tiles(name)
    kinds = [kind for kind in ("sources", "edits") if (workspace.root / kind / f"{name}.png").exists()]
    return [workspace.load(kind, name) for kind in kinds]


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.resize((max(1, round(picture.width * TILE / picture.height)), TILE), Image.Resampling.LANCZOS)
