"""A run on disk: its checkpoints, its averaged weights, its log of losses.

accelerate writes a checkpoint's optimiser and random states, which it reads back with torch's `weights_only`. The
weights that are trained, and their averages, are safetensors of ours: of a frozen model of 24 GB they are the megabytes
that change. `register_for_checkpointing` is not used, because accelerate unpickles what comes that way.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kontext_slider.checkpoint import CORRUPT
from kontext_slider.errors import CheckpointError
from kontext_slider.files import cut_json_lines, put_in_place

log = logging.getLogger(__name__)

STEP = re.compile(r"step-\d+")
WEIGHTS, AVERAGES, LOSSES = "slider.safetensors", "averages.safetensors", "losses.jsonl"


class Averages:
    """Exponential moving averages of parameters, warmed up: after n updates the decay is at most (1 + n) / (10 + n)."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Take the parameters in; `num_updates` have been made before."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        for name, parameter in self.parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The averages in the place of the parameters inside the block."""
        before = {name: p.detach().clone() for name, p in self.parameters.items()}
        try:
            fill(self.parameters, self.values)
            yield
        finally:
            fill(self.parameters, before)


class Checkpoints:
    """`folder/step-000200` and so on, each whole or not there, the newest `keep` of them.

    Args:
        accelerator: holds the optimiser; its hooks are set so that it leaves the model's weights to this class.
        parameters: what is trained.
        averages: or None.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        parameters: dict[str, nn.Parameter],
        averages: Averages | None,
        keep: int,
    ) -> None:
        self.folder, self._accelerator, self._keep = folder, accelerator, keep
        self._tensors: dict[str, dict[str, Any]] = {WEIGHTS: parameters}
        if averages is not None:
            self._tensors[AVERAGES] = averages.values
        accelerator.register_save_state_pre_hook(self._write_weights)
        accelerator.register_load_state_pre_hook(self._read_weights)

    def save(self, step: int) -> None:
        """Write the state after `step` steps; called by every process."""
        target = self.folder / f"step-{step:06d}"
        partial = target.with_suffix(".partial")
        if self._accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self._accelerator.wait_for_everyone()
        self._accelerator.save_state(str(partial))
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            shutil.rmtree(target, ignore_errors=True)
            put_in_place(partial, target)
            for old in self.saved()[: -self._keep]:
                shutil.rmtree(old)
        self._accelerator.wait_for_everyone()

    def resume(self) -> int:
        """Put the newest state back that can be read, and warn of each that cannot. Returns the number of steps done, 0
        without a checkpoint. CheckpointError where none can be read."""
        saved = self.saved()
        for checkpoint in reversed(saved):
            try:
                self._accelerator.load_state(str(checkpoint))
                return _step_of(checkpoint)
            except CORRUPT as error:
                if checkpoint == saved[0]:
                    raise CheckpointError(
                        f"No checkpoint in {str(self.folder)!r} can be read ({checkpoint.name}: {error}). Delete them "
                        "to train from the start."
                    ) from error
                log.warning("The checkpoint %s cannot be read (%s): the one before it is taken.", checkpoint, error)
        return 0

    def saved(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((f for f in self.folder.glob("step-*") if STEP.fullmatch(f.name)), key=_step_of)

    def _write_weights(self, models: list, weights: list, folder: str) -> None:
        """accelerate's hook: what is left in `weights` it would write itself, the frozen model included."""
        weights.clear()
        if self._accelerator.is_main_process:
            for name, tensors in self._tensors.items():
                save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, Path(folder) / name)

    def _read_weights(self, models: list, folder: str) -> None:
        models.clear()
        for name, tensors in self._tensors.items():
            saved = load_file(Path(folder) / name)
            if saved.keys() != tensors.keys():
                raise CheckpointError(f"{Path(folder) / name} is of another slider. Start in another folder.")
            fill(tensors, saved)


class LossLog:
    """`losses.jsonl`: one line per step. A resumed run first takes off the lines that it will write again."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / LOSSES
        cut_json_lines(self.path, step)

    def add(self, step: int, loss: float) -> None:
        """The loss of step number `step`, counted from 1."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "loss": loss}) + "\n")


@torch.no_grad()
def fill(tensors: dict[str, Any], values: dict[str, Tensor]) -> None:
    """Copy values into tensors of the same names."""
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
