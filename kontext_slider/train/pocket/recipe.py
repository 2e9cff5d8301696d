"""From nothing to a pocket model: draw, fit the codec, train the base, train the slider.

Kill it at any time and start it again: it goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from kontext_slider.files import write_json
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.run_folder import alone_in
from kontext_slider.train.config import POCKET, SliderConfig
from kontext_slider.train.loop import LOG
from kontext_slider.train.pocket.base import BASE, BaseConfig, train_base
from kontext_slider.train.pocket.model import PocketSizes
from kontext_slider.train.pocket.pairs import EDITS_PER_SOURCE, ShardSize
from kontext_slider.train.slider import train_slider
from kontext_slider.world.edits import known_instructions

EDIT_DEFAULTS = {
    "size": 256,
    "steps": 1,
    "base_steps": 2,
    "guidance": 1.0,
    "max_sequence_length": PocketSizes().text_length,
    "anchor_source": True,
    "noise_scale": 0.1,  # synthetic edits have one answer; .1 is as near to it as none, and keeps seeds apart
}
RUNS = "runs.json"
STAGES = ("base", "slider")


def _larger(sizes: tuple[ShardSize, ...], times: int) -> tuple[ShardSize, ...]:
    return tuple(replace(size, sources=times * size.sources, batch=times * size.batch) for size in sizes)


# "gpu" sees seventy times as many pictures as "cpu" does in its hours; nobody has run it from this repository yet.
RECIPES: dict[str, tuple[BaseConfig, SliderConfig]] = {
    "cpu": (BASE, POCKET.changed(device="cpu")),
    "gpu": (
        BASE.changed(device="auto", sizes=_larger(BASE.sizes, 8), steps=36_000),
        POCKET.changed(sizes=_larger(POCKET.sizes, 8), steps=12_000),
    ),
}


def build_pipeline(parts: dict) -> KontextSliderPipeline:
    """The trained parts as a pipeline that carries its own settings and the instructions it knows."""
    return KontextSliderPipeline(**parts, edit_defaults=EDIT_DEFAULTS, known_instructions=known_instructions())


def save(pipe: KontextSliderPipeline, base: BaseConfig, slider: SliderConfig, run: Path, out: Path) -> None:
    """Write the pipeline in half precision to `out`, with the settings and logs of its training."""
    pipe.to("cpu", torch.float16)
    pipe.save_pretrained(out)
    (out / "training").mkdir(exist_ok=True)
    for stage in STAGES:
        shutil.copy(run / stage / LOG, out / "training" / f"{stage}.jsonl")
    settings = {"base": base.model_dump(mode="json"), "slider": slider.model_dump(mode="json")}
    write_json(out / "training" / RUNS, settings)


def run(name: str, folder: Path, out: Path, start: Path | None = None) -> None:
    """Train by the recipe of that name what is not trained yet in `folder`, and save it to `out`. `start`: a pocket
    model's folder to go on from."""
    torch.set_flush_denormal(True)
    base, slider = RECIPES[name]
    base, slider = base.changed(start=start), slider.changed(start=start)
    with alone_in(folder):
        pipe = build_pipeline(train_base(base, folder))
        train_slider(pipe, slider, folder / "slider")
        save(pipe, base, slider, folder, out)


def training_section(folder: Path) -> str:
    """Markdown, from the settings of base and slider in `folder`/training."""
    runs = json.loads((folder / "training" / RUNS).read_text(encoding="utf-8"))
    base, slider = runs["base"], runs["slider"]
    start = base["start"]
    origin = "everything from nothing; it resumes after a kill."
    if start is not None:
        origin = (
            f"the last of several runs, each of which went on from the model before it (here `{start}`, its codec "
            "included). The table has this run alone. `make train` makes another model, from nothing. Pictures are "
            "drawn, and one in seven is a crop of scikit-image's samples."
        )
    pictures = "as it was" if start is not None else f"{base['codec_pictures']} drawn, closed form"
    return f"""## Training

`python -m kontext_slider.train.pocket`: {origin}

| stage | pictures | steps | seed |
|---|---|---|---|
| codec | {pictures} | - | {base["codec_seed"]} |
{_row("base", base, "full strength")}
{_row("slider", slider, "any strength")}

Logs: `training/base.jsonl`, `training/slider.jsonl` (step, loss, seconds per step), two CPU cores, bfloat16 autocast.
"""


def _row(stage: str, run: dict, strength: str) -> str:
    pairs = EDITS_PER_SOURCE * sum(size["sources"] for size in run["sizes"])
    sides = sorted(size[side] for size in run["sizes"] for side in ("width", "height"))
    shapes = f"{len(run['sizes'])} shapes of {sides[0]} to {sides[-1]} px a side"
    return f"| {stage}, {shapes} | {pairs:,} pairs at {strength} | {run['steps']} | {run['seed']} |"
