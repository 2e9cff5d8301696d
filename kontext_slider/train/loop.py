"""The loop of every training: accelerate, one log, and checkpoints from which a killed run goes on to the same weights.

A run's folder holds `run.json`, `log.jsonl` (step, mean loss, seconds per step since the line before) and
`checkpoints/`.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import InitProcessGroupKwargs, send_to_device
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from kontext_slider.errors import CheckpointError, InvalidInput, KontextSliderError
from kontext_slider.files import append_json_line, cut_json_lines, file_sha256, open_whole, put_in_place, writing
from kontext_slider.train.config import CHECKPOINTS, RunConfig

log = logging.getLogger(__name__)

STEP = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")  # steps done, first digits of the file's SHA-256
LOG = "log.jsonl"
BETA1 = 0.9  # of AdamW
# Processes encode equal shares of a data set, for hours, and then wait for the slowest. NCCL would give up after ten
# minutes; a process that dies ends the others at once all the same.
LONGEST_WAIT = timedelta(hours=6)
KEPT = 2  # checkpoints: the newest, and the one before it should that be corrupt
MOST_SIZES = 32  # of pictures, that one compiled block is made for

Draw = Callable[[int, int, int], Any]  # (step, part, number of parts) -> that part of the step's batch
OnStep = Callable[[int, float], object]  # (steps done, loss)


def make_accelerator(config: RunConfig) -> Accelerator:
    """accelerate for this run, whose processes wait up to LONGEST_WAIT for each other. InvalidInput for a precision
    that accelerate, which has one for each process, does not have in this one."""
    if is_initialized() and AcceleratorState().mixed_precision != config.precision:
        raise InvalidInput(
            f"An earlier run in this process has precision {AcceleratorState().mixed_precision!r}: train with "
            f"{config.precision!r} in a process of its own."
        )
    return Accelerator(
        cpu=config.device == "cpu",
        gradient_accumulation_steps=config.accumulation,
        mixed_precision=config.precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
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
    betas, decay = (BETA1, config.beta2), config.weight_decay
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, config.rate, betas=betas, weight_decay=decay, fused=True)
    check_optimiser(config)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, config.rate, betas=betas, weight_decay=decay)


def check_optimiser(config: RunConfig) -> None:
    """InvalidInput where the optimiser's package is not installed."""
    if config.optimiser == "adamw8bit" and find_spec("bitsandbytes") is None:
        raise InvalidInput(
            "The 8-bit optimiser needs bitsandbytes, which is not installed: pip install bitsandbytes, or set "
            "optimiser=adamw, which takes 6 more bytes for each trained weight."
        )


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
        tensors: dict[str, Tensor] = dict(self.parameters)
        self.averages = None if config.ema is None else EMAModel(self.parameters.values(), decay=config.ema)
        if self.averages is not None:
            shadows = zip(self.parameters, self.averages.shadow_params, strict=True)
            tensors |= {f"average of {name}": shadow for name, shadow in shadows}
        self.model, *self.optimizers = accelerator.prepare(model, *optimizers)
        self.peaks = [group["lr"] for group in self._groups()]
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, accelerator, tensors, self.optimizers, KEPT)

    def run(self, on_step: OnStep = lambda step, loss: None) -> None:
        """From the newest checkpoint to the last step. `on_step` is called after every step, once it is saved."""
        config, main = self.config, self.accelerator.is_main_process
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self.checkpoints.resume()
        if self.averages is not None:
            self.averages.optimization_step = first
        if main:
            cut_json_lines(self.folder / LOG, first)
        losses, since = [], time.monotonic()
        steps = range(first, config.steps)
        for step in tqdm(steps, initial=first, total=config.steps, unit="step", disable=not main):
            loss = self.step(step)
            losses.append(loss)
            if (step + 1) % config.log_every == 0:
                if main:
                    seconds = round((time.monotonic() - since) / len(losses), 3)
                    line = {"step": step + 1, "loss": sum(losses) / len(losses), "seconds": seconds}
                    append_json_line(self.folder / LOG, line)
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


def _finite(step: int, loss: float) -> float:
    if not math.isfinite(loss):
        raise KontextSliderError(
            f"The loss is {loss} at step {step + 1}. The newest checkpoint is from before: lower the rate and start in "
            "a new folder."
        )
    return loss


class Checkpoints:
    """`folder/step-000200-DIGEST.pt` and so on, each whole or not there, the newest `keep` of them: the trained weights
    and their averages, of a frozen model of 24 GB the megabytes that change, and the optimisers' states. By its digest
    a damaged file is told, which might be read all the same.

    Args:
        tensors: what is saved, by name, of the same names every time.
    """

    def __init__(
        self, folder: Path, accelerator: Accelerator, tensors: dict[str, Tensor], optimizers: list[Optimizer], keep: int
    ) -> None:
        self.folder, self._accelerator, self._keep = folder, accelerator, keep
        self._tensors, self._optimizers = tensors, optimizers

    def save(self, step: int) -> None:
        """Write the state after `step` steps; called by every process."""
        if self._accelerator.is_main_process:
            self.folder.mkdir(exist_ok=True)
            partial = self.folder / "newest.partial"
            states = [optimizer.state_dict() for optimizer in self._optimizers]
            with open_whole(partial) as file:  # by an open one, the system's error is told
                torch.save({"tensors": {k: t.detach() for k, t in self._tensors.items()}, "optimizers": states}, file)
            with writing(self.folder):
                put_in_place(partial, self.folder / f"step-{step:06d}-{file_sha256(partial)[:16]}.pt")
            for old in self.saved()[: -self._keep]:
                if old.is_file():
                    old.unlink()
        self._accelerator.wait_for_everyone()

    def resume(self) -> int:
        """Restore the newest state that can be read, and warn of each that cannot. Returns the number of steps done, 0
        without a checkpoint. CheckpointError where none can be read, or it is of another model."""
        saved = self.saved()
        for checkpoint in reversed(saved):
            try:
                state = _read(checkpoint)
            except CheckpointError as error:
                if checkpoint == saved[0]:
                    raise CheckpointError(
                        f"No checkpoint in {str(self.folder)!r} can be read. {error} Delete them to train from the "
                        "start."
                    ) from error
                log.warning("%s The checkpoint before it is taken.", error)
                continue
            self._restore(state, checkpoint)
            return _step_of(checkpoint)
        return 0

    @torch.no_grad()
    def _restore(self, state: dict[str, Any], checkpoint: Path) -> None:
        if state["tensors"].keys() != self._tensors.keys():
            raise CheckpointError(f"{checkpoint} is of another model. Start in another folder.")
        for name, tensor in self._tensors.items():
            tensor.copy_(state["tensors"][name])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def saved(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((file for file in self.folder.glob("step-*") if STEP.fullmatch(file.name)), key=_step_of)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _read(checkpoint: Path) -> dict[str, Any]:
    """The state in a checkpoint. CheckpointError where its bytes are not those that were written, or hold no state."""
    try:
        is_whole = checkpoint.is_file() and file_sha256(checkpoint).startswith(checkpoint.stem.split("-")[2])
    except OSError as error:
        raise CheckpointError(f"{checkpoint.name} cannot be read ({error}).") from error
    if not is_whole:  # before it is loaded: a few bytes may ask for all memory
        raise CheckpointError(f"{checkpoint.name} is damaged: its bytes are not those that were written.")
    try:
        # tensors and plain values alone: a file from elsewhere cannot run code
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return {"tensors": dict(state["tensors"]), "optimizers": list(state["optimizers"])}
    except Exception as error:  # damaged bytes break the reader in any way
        raise CheckpointError(f"{checkpoint.name} cannot be read ({error}).") from error
