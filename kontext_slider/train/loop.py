"""A training loop that can be killed: everything random is a function of the step, so a resumed run is the same run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import Tensor, nn
from torch.optim import Optimizer

from kontext_slider.checkpoint import CORRUPT
from kontext_slider.errors import CheckpointError
from kontext_slider.files import cut_json_lines, put_in_place

CHECKPOINT = "checkpoint.pt"
MOST_SIZES = 32  # of pictures, that one compiled block is made for


@dataclass(frozen=True)
class Schedule:
    """Number of steps, linear warm-up and linear decay to zero, gradient clip, steps between checkpoints."""

    steps: int
    warmup: int = 100
    clip: float = 1.0
    checkpoint_every: int = 200

    def factor(self, step: int) -> float:
        """What every peak learning rate is multiplied by at `step` in [0, steps)."""
        return min((step + 1) / self.warmup, (self.steps - step) / max(self.steps - self.warmup, 1), 1.0)


def make_optimizers(modules: Sequence[nn.Module], adam_rate: float, muon_rate: float | None = None) -> list[Optimizer]:
    """AdamW for all trainable parameters, or, with `muon_rate`, Muon for the matrices inside transformer blocks.

    Modulations (`norm*`), embeddings and vectors stay with AdamW. Muon's update is scaled to AdamW's size."""
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    is_inner = [muon_rate is not None and p.ndim == 2 and "blocks." in name and "norm" not in name for name, p in named]
    outer = [p for (_, p), inner in zip(named, is_inner, strict=True) if not inner]
    optimizers: list[Optimizer] = [
        torch.optim.AdamW(outer, adam_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ]
    if muon_rate is not None:
        inner_parameters = [p for (_, p), inner in zip(named, is_inner, strict=True) if inner]
        optimizers.append(
            torch.optim.Muon(inner_parameters, muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        )
    return optimizers


def compile_blocks(transformer: ModelMixin) -> None:
    """Compile the repeated blocks where this machine can (C++ for the CPU), once for every size of pictures: the same
    steps, a quarter faster."""
    if shutil.which("c++"):
        torch._dynamo.config.recompile_limit = MOST_SIZES
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)


def train(
    modules: Sequence[nn.Module],
    optimizers: Sequence[Optimizer],
    loss_at: Callable[[int], Tensor],
    schedule: Schedule,
    folder: Path,
    seed: int,
) -> None:
    """Minimise `loss_at(step)` over the trainable parameters of `modules`.

    Resumes from `folder/checkpoint.pt` when there is one; appends one JSON line in ten steps to `folder/log.jsonl`."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    folder.mkdir(parents=True, exist_ok=True)
    step = load_checkpoint(folder / CHECKPOINT, parameters, optimizers)
    cut_json_lines(folder / "log.jsonl", step)
    losses, since = [], time.monotonic()
    while step < schedule.steps:
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * schedule.factor(step)
        torch.manual_seed(seed + step)
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, schedule.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(loss.item())
        if step % 10 == 0:
            write_log(folder / "log.jsonl", step, losses, time.monotonic() - since)
            losses, since = [], time.monotonic()
        if step % schedule.checkpoint_every == 0 or step == schedule.steps:
            save_checkpoint(folder / CHECKPOINT, parameters, optimizers, step)


def write_log(path: Path, step: int, losses: list[float], seconds: float) -> None:
    """One JSON line: step, mean loss and seconds per step since the line before."""
    line = {"step": step, "loss": round(sum(losses) / len(losses), 5), "seconds": round(seconds / len(losses), 3)}
    with open(path, "a") as log:
        log.write(json.dumps(line) + "\n")


def save_checkpoint(path: Path, parameters: list[nn.Parameter], optimizers: Sequence[Optimizer], step: int) -> None:
    """Weights and optimisers, written whole or not at all."""
    state = {
        "parameters": [p.detach() for p in parameters],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
    }
    torch.save(state, path.with_suffix(".partial"))
    put_in_place(path.with_suffix(".partial"), path)


def load_checkpoint(path: Path, parameters: list[nn.Parameter], optimizers: Sequence[Optimizer]) -> int:
    """Put a saved state back; returns the number of steps done, 0 without a checkpoint. CheckpointError for a torn
    one."""
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CORRUPT as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Delete it to train from the start.") from error
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]
