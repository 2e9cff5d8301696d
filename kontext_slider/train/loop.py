"""The loop of every training: accelerate, one log, and checkpoints from which a killed run goes on to the same weights.

A run's folder holds `run.json`, `log.jsonl` (step, mean loss, seconds per step since the line before), `checkpoints/`
and tensorboard's files in `logs/`.

accelerate writes a checkpoint's optimisers and random states, which it reads back with torch's `weights_only`. The
weights that are trained, and their averages, are safetensors of ours: of a frozen model of 24 GB they are the megabytes
that change. `register_for_checkpointing` is not used, because accelerate unpickles what comes that way.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import ProjectConfiguration, send_to_device
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from kontext_slider.checkpoint import CORRUPT
from kontext_slider.errors import CheckpointError, InvalidInput, KontextSliderError
from kontext_slider.files import append_json_line, cut_json_lines, put_in_place
from kontext_slider.train.config import CHECKPOINTS, RunConfig

log = logging.getLogger(__name__)

STEP = re.compile(r"step-(\d+)")
WEIGHTS, AVERAGES, LOG = "weights.safetensors", "averages.safetensors", "log.jsonl"
MOST_SIZES = 32  # of pictures, that one compiled block is made for

Draw = Callable[[int, int, int], Any]  # (step, part, number of parts) -> that part of the step's batch
OnStep = Callable[[int, float], object]  # (steps done, loss)


def make_accelerator(config: RunConfig, folder: Path) -> Accelerator:
    """accelerate for this run. Raises InvalidInput for a tracker that is not installed, and for a precision that
    accelerate, which has one for each process, does not have in this one."""
    if config.tracker != "none" and find_spec(config.tracker) is None:
        raise InvalidInput(f"{config.tracker} is not installed: pip install {config.tracker}, or set tracker=none.")
    if is_initialized() and AcceleratorState().mixed_precision != config.precision:
        raise InvalidInput(
            f"An earlier run in this process has precision {AcceleratorState().mixed_precision!r}: train with "
            f"{config.precision!r} in a process of its own."
        )
    return Accelerator(
        cpu=config.device == "cpu",
        gradient_accumulation_steps=config.accumulation,
        mixed_precision=config.precision,
        log_with=None if config.tracker == "none" else config.tracker,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
    )


def make_optimizers(model: nn.Module, config: RunConfig, muon_rate: float | None = None) -> list[Optimizer]:
    """AdamW for all trainable parameters, or, with `muon_rate`, Muon for the matrices inside transformer blocks.

    Modulations (`norm*`), embeddings and vectors stay with AdamW. Muon's update is scaled to AdamW's size. Raises
    InvalidInput where the 8-bit AdamW is not installed."""
    named = trained(model)
    inner = {n for n, p in named.items() if muon_rate and p.ndim == 2 and "blocks." in n and "norm" not in n}
    outer = [parameter for name, parameter in named.items() if name not in inner]
    optimizers = [_adamw(outer, config)]
    if muon_rate is not None:
        matrices = [named[name] for name in named if name in inner]
        optimizers.append(
            torch.optim.Muon(matrices, muon_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def _adamw(parameters: list[nn.Parameter], config: RunConfig) -> Optimizer:
    betas, decay = (config.beta1, config.beta2), config.weight_decay
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, config.rate, betas=betas, weight_decay=decay, fused=True)
    if find_spec("bitsandbytes") is None:
        raise InvalidInput(
            "The 8-bit optimiser needs bitsandbytes, which is not installed: pip install bitsandbytes, or set "
            "optimiser=adamw, which takes 6 more bytes for each trained weight."
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, config.rate, betas=betas, weight_decay=decay)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def compile_blocks(transformer: ModelMixin) -> None:
    """Compile the repeated blocks where this machine can (C++ for the CPU), once for every size of pictures: the same
    steps, a quarter faster."""
    if shutil.which("c++"):
        torch._dynamo.config.recompile_limit = MOST_SIZES
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)


class Loop:
    """One run in one process: optimisers, averages, checkpoints and the log.

    Args:
        model: `model(batch)` is the loss of a batch, a scalar.
        draw: the batches; what a process takes is part number k of n.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: list[Optimizer],
        draw: Draw,
        config: RunConfig,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.draw, self.config, self.folder, self.accelerator = draw, config, folder, accelerator
        self.parameters = trained(model)
        tensors: dict[str, dict[str, Any]] = {WEIGHTS: self.parameters}
        self.averages = None if config.ema is None else EMAModel(self.parameters.values(), decay=config.ema)
        if self.averages is not None:
            tensors[AVERAGES] = dict(zip(self.parameters, self.averages.shadow_params, strict=True))
        self.model, *self.optimizers = accelerator.prepare(model, *optimizers)
        self.peaks = [group["lr"] for group in self._groups()]
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, accelerator, tensors, config.keep_checkpoints)

    def run(self, on_step: OnStep = lambda step, loss: None) -> None:
        """From the newest checkpoint to the last step. `on_step` is called after every step, once it is saved. Trackers
        and processes stay: the caller ends them (`accelerator.end_training`) once it has saved its result."""
        config, main = self.config, self.accelerator.is_main_process
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self.checkpoints.resume()
        if self.averages is not None:
            self.averages.optimization_step = first
        if main:
            cut_json_lines(self.folder / LOG, first)
        self.accelerator.init_trackers("training", init_kwargs={"tensorboard": {"purge_step": first + 1}})
        losses, since = [], time.monotonic()
        steps = range(first, config.steps)
        for step in tqdm(steps, initial=first, total=config.steps, unit="step", disable=not main):
            loss = self.step(step)
            losses.append(loss)
            if (step + 1) % config.log_every == 0:
                self._log(step, losses, time.monotonic() - since)
                losses, since = [], time.monotonic()
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                self.checkpoints.save(step + 1)
            on_step(step + 1, loss)

    def step(self, step: int) -> float:
        """One optimiser step, in `accumulation` parts. Returns the mean loss over all processes."""
        config, accelerator = self.config, self.accelerator
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * config.factor(step)
        total = torch.zeros((), device=accelerator.device)
        for micro in range(config.accumulation):
            part = micro * accelerator.num_processes + accelerator.process_index
            drawn = self.draw(step, part, config.accumulation * accelerator.num_processes)
            batch = send_to_device(drawn, accelerator.device)
            with accelerator.accumulate(self.model):
                loss = self.model(batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(list(self.parameters.values()), config.clip)
                for optimizer in self.optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
            total += loss.detach() / config.accumulation
        if self.averages is not None:
            self.averages.step(self.parameters.values())
        return _finite(step, accelerator.reduce(total, "mean").item())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in place inside the block, where there are any."""
        if self.averages is None:
            yield
            return
        self.averages.store(self.parameters.values())
        try:
            self.averages.copy_to(self.parameters.values())
            yield
        finally:
            self.averages.restore(self.parameters.values())

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _log(self, step: int, losses: list[float], seconds: float) -> None:
        mean, rate = sum(losses) / len(losses), self.peaks[0] * self.config.factor(step)
        self.accelerator.log({"loss": mean, "rate": rate}, step=step + 1)
        if self.accelerator.is_main_process:
            line = {"step": step + 1, "loss": mean, "seconds": round(seconds / len(losses), 3)}
            append_json_line(self.folder / LOG, line)


def _finite(step: int, loss: float) -> float:
    if not math.isfinite(loss):
        raise KontextSliderError(
            f"The loss is {loss} at step {step + 1}. The newest checkpoint is from before: lower the rate and start in "
            "a new folder."
        )
    return loss


class Checkpoints:
    """`folder/step-000200` and so on, each whole or not there, the newest `keep` of them.

    Args:
        accelerator: holds the optimisers; its hooks are set so that it leaves the weights to this class.
        tensors: file name -> what is saved in it, by name.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, tensors: dict[str, dict[str, Any]], keep: int) -> None:
        self.folder, self._accelerator, self._tensors, self._keep = folder, accelerator, tensors, keep
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
        """Restore the newest state that can be read, and warn of each that cannot. Returns the number of steps done, 0
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

    @torch.no_grad()
    def _read_weights(self, models: list, folder: str) -> None:
        models.clear()
        for name, tensors in self._tensors.items():
            saved = load_file(Path(folder) / name)
            if saved.keys() != tensors.keys():
                raise CheckpointError(f"{Path(folder) / name} is of another model. Start in another folder.")
            for key, tensor in tensors.items():
                tensor.copy_(saved[key])


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
