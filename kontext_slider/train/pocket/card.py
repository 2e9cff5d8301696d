"""The model card's section on training: what made the pocket weights."""

from __future__ import annotations

import json
from pathlib import Path

from kontext_slider.train.pocket.pairs import EDITS_PER_SOURCE

RUNS = "runs.json"


def training_section(folder: Path) -> str:
    """Markdown, from the settings of base and slider in `folder`/training."""
    runs = json.loads((folder / "training" / RUNS).read_text(encoding="utf-8"))
    base, slider = runs["base"], runs["slider"]
    return f"""## Training

{_origin(base)}

| stage | pictures | steps | seed |
|---|---|---|---|
{_codec(base)}
{_row("base", base)}
{_row("slider", slider)}

Logs: `training/base.jsonl`, `training/slider.jsonl` (step, loss, seconds per step), two CPU cores, bfloat16 autocast.
"""


def _origin(base: dict) -> str:
    if base["start"] is None:
        return "`python -m kontext_slider.train.pocket`: everything from nothing; it resumes after a kill."
    return (
        f"`python -m kontext_slider.train.pocket`, which goes on from an earlier model, `{base['start']}`, its codec "
        "included; it resumes after a kill. Pictures are drawn, and one in seven is a crop of scikit-image's samples."
    )


def _codec(base: dict) -> str:
    pictures = f"{base['codec_pictures']} drawn, closed form" if base["start"] is None else "as it was"
    return f"| codec | {pictures} | - | {base['codec_seed']} |"


def _row(stage: str, run: dict) -> str:
    pairs = EDITS_PER_SOURCE * sum(size["sources"] for size in run["sizes"])
    strength = "full strength" if stage == "base" else "any strength"
    sides = sorted({size[side] for size in run["sizes"] for side in ("width", "height")})
    shapes = f"{len(run['sizes'])} shapes of {sides[0]} to {sides[-1]} px a side"
    return f"| {stage}, {shapes} | {pairs:,} pairs at {strength} | {run['steps']} | {run['seed']} |"
