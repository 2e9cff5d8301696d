"""What a stage's folder was begun with, noted in it, so that no other run goes on from its checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kontext_slider.errors import InvalidInput
from kontext_slider.files import write_whole
from kontext_slider.train.digest import folder_digest
from kontext_slider.train.loop import CHECKPOINT

if TYPE_CHECKING:
    from kontext_slider.train.pocket.base import BaseRun
    from kontext_slider.train.pocket.slider import SliderRun

RUN_FILE = "run.json"
MACHINE = ("device", "compiled")  # a run may go on on another


def open_run(folder: Path, run: BaseRun | SliderRun, **inputs: list[str]) -> None:
    """Note in `folder/run.json` what a stage is made of, or hold a note that is there against it.

    inputs: digests of what it is made of besides the settings and the model that it starts from.

    Raises InvalidInput where the folder holds another run, or checkpoints of which nothing is noted."""
    settings = {name: value for name, value in asdict(run).items() if name not in MACHINE}
    wanted = json.loads(json.dumps({**settings, **inputs}, default=str))
    start = None if run.start is None else folder_digest(run.start)
    if not (folder / RUN_FILE).exists() and not (folder / CHECKPOINT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, {"run": wanted, "starts": [start]})
        return
    noted = _read(folder)
    other = [name for name in wanted if noted["run"].get(name) != wanted[name]]
    if start not in noted["starts"] and "start" not in other:
        other.append("start (its weights have changed)")
    if other:
        raise InvalidInput(
            f"The run in {str(folder)!r} has another {', '.join(other)}. Go on with its own settings ({RUN_FILE}), or "
            "give another folder with --run."
        )


def allow_start(folder: Path, model: Path) -> None:
    """Let the run in `folder` be asked for again though `model`, its result, has taken the place of its start."""
    noted = _read(folder)
    _write(folder, {**noted, "starts": list(dict.fromkeys([*noted["starts"], folder_digest(model)]))})


def _read(folder: Path) -> dict:
    try:
        noted = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return {"run": dict(noted["run"]), "starts": list(noted["starts"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{folder / RUN_FILE}, which says what run the folder holds, cannot be read ({error}). Give another folder "
            "with --run."
        ) from error


def _write(folder: Path, note: dict) -> None:
    write_whole(folder / RUN_FILE, (json.dumps(note, indent=2) + "\n").encode())
