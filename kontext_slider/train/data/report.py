"""The results of a run: counts per stage, reason and category, and strips to look at, kept and rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kontext_slider.files import write_whole
from kontext_slider.metrics.statistics import markdown
from kontext_slider.train.data.workspace import STAGES, Outcome, Workspace, join_strip, picture_bytes

ROWS_PER_SHEET = 24
TILE, GAP, TEXT = 96, 4, 14  # pixels: a tile's height, between rows, a line of words


def write_report(workspace: Workspace, command: str) -> Path:
    """`report/report.md` with `kept.png` and `rejected.png`; returns the folder."""
    folder, outcomes = workspace.root / "report", workspace.outcomes()
    folder.mkdir(parents=True, exist_ok=True)
    kept = [outcome for outcome in outcomes if outcome.is_kept]
    rejected = [outcome for outcome in outcomes if outcome.reason is not None]
    reasons = Counter((outcome.stage, outcome.reason) for outcome in rejected).most_common()
    parts = ["# Data of a run", f"`{command}`", _stage_table(outcomes), _category_table(outcomes)]
    parts.append("## Reasons\n\n" + markdown(("stage", "reason", "items"), [(*key, count) for key, count in reasons]))
    for name, group in (("kept", kept), ("rejected", rejected)):
        shown = [outcome for outcome in group if workspace.picture("sources", outcome.item.id).exists()]
        if shown:
            numbers = np.linspace(0, len(shown) - 1, min(len(shown), ROWS_PER_SHEET))
            sheet = contact_sheet(workspace, [shown[round(number)] for number in numbers])
            write_whole(folder / f"{name}.png", picture_bytes(sheet))
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
    seen, kept = (
        Counter(outcome.item.facts.get("category", "(none)") for outcome in group)
        for group in (outcomes, [outcome for outcome in outcomes if outcome.is_kept])
    )
    rows = [(name, count, kept[name], f"{kept[name] / count:.0%}") for name, count in sorted(seen.items())]
    return "## Categories\n\n" + markdown(("category", "items", "kept", "share kept"), rows)


def contact_sheet(workspace: Workspace, shown: Sequence[Outcome]) -> Image.Image:
    """A row per item: a line of words, and its strip (or what there is of it), TILE pixels high."""
    strips = [_strip(workspace, outcome.item.id) for outcome in shown]
    pitch = TILE + TEXT + GAP
    sheet = Image.new("RGB", (max(strip.width for strip in strips), len(strips) * pitch), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (outcome, strip) in enumerate(zip(shown, strips, strict=True)):
        facts = outcome.item.facts
        words = f"{outcome.item.id}  {facts.get('category', '')}: {facts.get('instruction', '')}"
        words += f"  (KL {facts['kl']:.3f})" if "kl" in facts else ""
        words += f"  {outcome.reason}. {facts.get('detail', '')}" if outcome.reason else ""
        pen.text((2, number * pitch), words, fill="black", font=font)
        sheet.paste(strip, (0, number * pitch + TEXT))
    return sheet


def _strip(workspace: Workspace, name: str) -> Image.Image:
    found = [kind for kind in ("strips", "sources", "edits") if workspace.picture(kind, name).exists()]
    strip = join_strip([workspace.load(kind, name) for kind in (found[:1] if found[0] == "strips" else found)])
    return strip.resize((max(1, round(strip.width * TILE / strip.height)), TILE), Image.Resampling.LANCZOS)
