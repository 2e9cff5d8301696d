"""Files of a run that outlive a crash: put in place whole, and logs that say nothing twice."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

from safetensors import SafetensorError

from kontext_slider.files import write_whole

# How a half-written file of tensors fails.
TORN = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a complete file or folder to `path` once its bytes are on the disk, so that no power cut leaves half."""
    for file in [partial, *partial.rglob("*")]:
        if file.is_file():
            with open(file, "r+b") as opened:
                os.fsync(opened.fileno())
    os.replace(partial, path)


def cut_log(path: Path, step: int) -> None:
    """Take off a log of JSON lines those after `step`, which a resumed run writes again, and those that are torn."""
    if path.exists():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if 0 <= _step_of(line) <= step]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> int:
    """The step that a line is about; -1 of a torn one."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1
