"""The results of a run: counts per stage, category and reason, distances, and strips to look at, kept and rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kontext_slider.files import write_whole
from kontext_slider.metrics.statistics import markdown
from kontext_slider.train.data.scores import THRESHOLDS, scores_of
from kontext_slider.train.data.workspace import STAGES, Outcome, Workspace, png_bytes

ROWS_PER_SHEET = 24
FIELDS = ("source_edit", "edit_reconstruction", "kl")  # of the scores, in the table of distances
TILE, GAP, TEXT = 96, 4, 14  # pixels: a tile's height, between rows, a line of words


def write_report(workspace: Workspace, command: str) -> Path:
    """`report/report.md` with `kept.png` and `rejected.png`; returns the folder."""
    folder, outcomes = workspace.root / "report", workspace.outcomes()
    folder.mkdir(parents=True, exist_ok=True)
    rejected = [outcome for outcome in outcomes if outcome.reason is not None]
    reasons = Counter((outcome.stage, outcome.reason) for outcome in rejected).most_common()
    parts = ["# Data of a run", f"`{command}`", _stage_table(outcomes), _category_table(outcomes)]
    parts.append("## Reasons\n\n" + markdown(("stage", "reason", "items"), [(*key, count) for key, count in reasons]))
    parts.append(_distance_table(workspace, outcomes))
    kept = [outcome for outcome in outcomes if outcome.is_kept]
    for name, group in (("kept", kept), ("rejected", rejected)):
        shown = [outcome for outcome in group if (workspace.root / "sources" / f"{outcome.item.id}.png").exists()]
        if shown:
            numbers = np.linspace(0, len(shown) - 1, min(len(shown), ROWS_PER_SHEET))
            sheet = contact_sheet(workspace, [shown[round(number)] for number in numbers])
            write_whole(folder / f"{name}.png", png_bytes(sheet))
            parts.append(f"## {name.capitalize()}\n\n![{name}]({name}.png)")
    write_whole(folder / "report.md", ("\n\n".join(parts) + "\n").encode())
    return folder


def _stage_table(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for number, stage in enumerate(STAGES):
        reached = [outcome for outcome in outcomes if STAGES.index(outcome.stage) >= number]
        lost = sum(outcome.stage == stage and outcome.reason is not None for outcome in reached)
        rows.append((stage, len(reached), len(reached) - lost, lost))
    return "## Stages\n\n" + markdown(("stage", "items", "go on", "rejected"), rows)


def _category_table(outcomes: Sequence[Outcome]) -> str:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.item.facts.get("category", "(none)"), []).append(outcome)
    rows = []
    for name, group in sorted(groups.items()):
        kept, lost = (sum(flags) for flags in ([o.is_kept for o in group], [o.reason is not None for o in group]))
        rows.append((name, len(group), kept, lost, f"{kept / len(group):.0%}"))
    return "## Categories\n\n" + markdown(("category", "items", "kept", "rejected", "share kept"), rows)


def _distance_table(workspace: Workspace, outcomes: Sequence[Outcome]) -> str:
    """Quantiles of the scores per category, beside the thresholds that were used."""
    name, rows = workspace.recipe.distance, []
    scored = [outcome.item.facts for outcome in outcomes if "kl" in outcome.item.facts]
    for category in sorted({facts["category"] for facts in scored}):
        group = [scores_of(facts) for facts in scored if facts["category"] == category]
        limit = THRESHOLDS.get(name, {}).get(category)
        edit, loss, kl = (_quantiles([getattr(scores, field) for scores in group]) for field in FIELDS)
        least, most = (f"{limit.least_edit:g}", f"{limit.most_loss:g}") if limit else ("-", "-")
        rows.append((category, edit, least, loss, most, kl))
    heads = ("category", "d(source, edit)", "at least", "d(edit, reconstruction)", "at most", "KL")
    return f"## Distances\n\n`{name}`: 2 %, 50 % and 98 % of the items.\n\n{markdown(heads, rows)}"


def _quantiles(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in np.quantile(values, (0.02, 0.5, 0.98)))


def contact_sheet(workspace: Workspace, shown: Sequence[Outcome]) -> Image.Image:
    """A row per item: a line of words, and its strip (or what there is of it), tiles TILE pixels high."""
    rows = [[_scaled(picture) for picture in _pictures(workspace, outcome.item.id)] for outcome in shown]
    width = max(sum(picture.width + 2 for picture in pictures) for pictures in rows)
    sheet = Image.new("RGB", (width, len(rows) * (TILE + TEXT + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (outcome, pictures) in enumerate(zip(shown, rows, strict=True)):
        top, left = number * (TILE + TEXT + GAP), 0
        pen.text((2, top), _caption(outcome), fill="black", font=font)
        for picture in pictures:
            sheet.paste(picture, (left, top + TEXT))
            left += picture.width + 2
    return sheet


def _caption(outcome: Outcome) -> str:
    facts = outcome.item.facts
    words = f"{outcome.item.id}  {facts.get('category', '')}: {facts.get('instruction', '')}"
    if "kl" in facts:
        words += f"  (KL {facts['kl']:.3f})"
    return f"{words}  {outcome.reason}. {facts.get('detail', '')}" if outcome.reason else words


def _pictures(workspace: Workspace, name: str) -> list[Image.Image]:
    if (workspace.root / "strips" / f"{name}.png").exists():
        return workspace.tiles(name)
    kinds = [kind for kind in ("sources", "edits") if (workspace.root / kind / f"{name}.png").exists()]
    return [workspace.load(kind, name) for kind in kinds]


def _scaled(picture: Image.Image) -> Image.Image:
    return picture.resize((max(1, round(picture.width * TILE / picture.height)), TILE), Image.Resampling.LANCZOS)
