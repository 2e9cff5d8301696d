"""What a stage's folder was begun with, noted in it, so that no other run goes on from its checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kontext_slider import files
from kontext_slider.train.loop import CHECKPOINT

if TYPE_CHECKING:
    from kontext_slider.train.pocket.base import BaseRun
    from kontext_slider.train.pocket.slider import SliderRun

RUN_FILE = "run.json"
MACHINE = ("device", "compiled")  # a run may go on on another


def open_run(folder: Path, run: BaseRun | SliderRun, **inputs: list[str]) -> None:
    """Note in `folder/run.json` what a stage is made of, or compare it with the note that is there.

    inputs: digests of what it is made of besides the settings and the model that it starts from.

    Raises InvalidInput where the folder holds another run, or checkpoints of which nothing is noted."""
    note = folder / RUN_FILE
    facts = {name: value for name, value in asdict(run).items() if name not in MACHINE} | inputs
    start = None if run.start is None else files.folder_sha256(run.start)
    if not note.exists() and (folder / CHECKPOINT).exists():
        files.read_run(note)
    noted = files.open_run(note, facts, {"starts": [start]})
    if start not in noted["starts"]:
        raise files.other_run(note, ["start (its weights have changed)"])


def allow_start(folder: Path, model: Path) -> None:
    """Let the run in `folder` be asked for again though `model`, its result, has taken the place of its start."""
    noted = files.read_run(folder / RUN_FILE)
    starts = list(dict.fromkeys([*noted["starts"], files.folder_sha256(model)]))
    files.write_json(folder / RUN_FILE, noted | {"starts": starts})
