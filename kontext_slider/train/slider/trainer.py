"""The trainer: encode once, then step by step, with accelerate. Killed at any time, it goes on to the same losses.

A run's folder holds `run.json`, `cache/`, `checkpoints/`, `losses.jsonl`, `previews/`, tensorboard's files in `logs/`
and, at the end, the slider in our layout in `slider/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import ProjectConfiguration
from torch.optim import Optimizer
from tqdm import tqdm

from kontext_slider.errors import InvalidInput, KontextSliderError
from kontext_slider.files import weights_sha256
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.slider.batches import BatchPlan, draw_batch, held_out_rows, part_of_batch
from kontext_slider.train.slider.cache import EncodedRows, encode_rows
from kontext_slider.train.slider.config import SliderConfig, check_run, open_run
from kontext_slider.train.slider.model import SliderModel
from kontext_slider.train.slider.preview import write_strips
from kontext_slider.train.slider.state import Averages, Checkpoints, LossLog
from kontext_slider.variants import save_variant

OnStep = Callable[[int, float], object]  # (steps done, loss)


def fit_slider(
    pipe: KontextSliderPipeline,
    config: SliderConfig,
    data: Path,
    folder: Path,
    cache: Path | None = None,
    on_step: OnStep = lambda step, loss: None,
) -> None:
    """Train (or resume) a slider on a base pipeline, in place, and save it to `folder/slider`.

    Under `accelerate launch`, every process calls this with its own pipeline.

    Args:
        pipe: the base; a slider that is on it is replaced.
        data: folder of Parquet files with `frames`, `strengths` and `instruction`.
        folder: the run; where one with the same settings is there, it goes on.
        cache: where encoded rows are kept, for several runs to share; `folder/cache` by default.
        on_step: called after every step.

    The pipeline keeps the last weights; saved are the averaged ones where `config.ema` asks for them.

    Raises InvalidInput for settings that do not fit the machine, the data or the run in the folder.
    """
    check_run(folder, config)
    accelerator = make_accelerator(config, folder)
    pipe.to(accelerator.device)
    config.rows_per_part(accelerator.num_processes)
    rows = encode_rows(pipe, config, data, cache or folder / "cache", accelerator)
    pipe.unload_slider()
    inputs = f"{rows.key}-{weights_sha256(pipe.transformer)[:16]}"
    with accelerator.main_process_first():
        open_run(folder, config, inputs)
    with _made_to_train(pipe):
        trainer = Trainer(pipe, config, rows, folder, accelerator)
        trainer.train(on_step)
        trainer.finish()


@contextmanager
def _made_to_train(pipe: KontextSliderPipeline) -> Iterator[None]:
    """Text encoders, which have said what they had to say, out of the device's memory inside the block; the transformer
    is an inference model again behind it."""
    device, encoders = pipe.transformer.device, (pipe.text_encoder, pipe.text_encoder_2)
    checkpointing = pipe.transformer.is_gradient_checkpointing
    for encoder in encoders:
        encoder.to("cpu")
    try:
        yield
    finally:
        pipe.transformer.eval()
        if not checkpointing:
            pipe.transformer.disable_gradient_checkpointing()
        for encoder in encoders:
            encoder.to(device)


def make_accelerator(config: SliderConfig, folder: Path) -> Accelerator:
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
        gradient_accumulation_steps=config.accumulation,
        mixed_precision=config.precision,
        log_with=None if config.tracker == "none" else config.tracker,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
    )


def make_optimizer(config: SliderConfig, parameters: list[torch.nn.Parameter]) -> Optimizer:
    """AdamW, or bitsandbytes' with 8-bit states. Raises InvalidInput where that is not installed."""
    betas = (config.beta1, config.beta2)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, config.rate, betas=betas, weight_decay=config.weight_decay)
    if find_spec("bitsandbytes") is None:
        raise InvalidInput(
            "The 8-bit optimiser needs bitsandbytes, which is not installed: pip install bitsandbytes, or set "
            "optimiser=adamw, which takes 6 more bytes for each trained weight."
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, config.rate, betas=betas, weight_decay=config.weight_decay)


class Trainer:
    """One run in one process: model, optimiser and everything that is written."""

    def __init__(
        self,
        pipe: KontextSliderPipeline,
        config: SliderConfig,
        rows: EncodedRows,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.pipe, self.config, self.rows, self.folder, self.accelerator = pipe, config, rows, folder, accelerator
        self.held_out = held_out_rows(len(rows), config.held_out)
        shapes = {row: shape for row, shape in enumerate(rows.shapes()) if row not in self.held_out}
        self.plan = BatchPlan(shapes, config.batch_size, config.seed)
        self.slider = SliderModel(pipe, config)
        self.parameters = self.slider.trained()
        self.averages = None if config.ema is None else Averages(self.parameters, config.ema)
        optimizer = make_optimizer(config, list(self.parameters.values()))
        self.model, self.optimizer = accelerator.prepare(self.slider, optimizer)
        self.checkpoints = Checkpoints(
            folder / "checkpoints", accelerator, self.parameters, self.averages, config.keep_checkpoints
        )

    def train(self, on_step: OnStep) -> None:
        """From the newest checkpoint to the last step."""
        config, main = self.config, self.accelerator.is_main_process
        first = self.checkpoints.resume()
        log = LossLog(self.folder, first) if main else None
        self.accelerator.init_trackers("slider", init_kwargs={"tensorboard": {"purge_step": first + 1}})
        steps = range(first, config.steps)
        for step in tqdm(steps, initial=first, total=config.steps, unit="step", disable=not main):
            loss = self.step(step)
            if log is not None:
                log.add(step + 1, loss)
            if (step + 1) % config.log_every == 0:
                self.accelerator.log({"loss": loss, "rate": config.rate * config.factor(step)}, step=step + 1)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                self.checkpoints.save(step + 1)
            if (step + 1) % config.preview_every == 0 or step + 1 == config.steps:
                self.preview(step + 1)
            on_step(step + 1, loss)

    def step(self, step: int) -> float:
        """One optimiser step, in `accumulation` parts. Returns the mean loss over all processes."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate * config.factor(step)
        total = torch.zeros((), device=accelerator.device)
        for micro in range(config.accumulation):
            part = part_of_batch(config, micro, accelerator.process_index, accelerator.num_processes)
            batch = draw_batch(self.rows, self.plan, config, step, part).to(accelerator.device)
            with accelerator.accumulate(self.model):
                loss = self.model(batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(list(self.parameters.values()), config.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += loss.detach() / config.accumulation
        if self.averages is not None:
            self.averages.update(step)
        return self._finite(step, accelerator.reduce(total, "mean").item())

    def preview(self, step: int) -> None:
        """Strips of the held-out rows, by the weights that would be saved now."""
        if self.accelerator.is_main_process and self.held_out:
            with self.shown():
                path = self.folder / "previews" / f"step-{step:06d}.png"
                write_strips(self.pipe, self.slider.projector, self.rows, self.held_out, path, self.config.seed)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Save the slider and close the trackers."""
        if self.accelerator.is_main_process:
            with self.shown():
                save_variant(self.folder / "slider", self.slider.projector, self.pipe.transformer)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def shown(self) -> AbstractContextManager[None]:
        """The averaged weights in place inside the block, where there are any."""
        return nullcontext() if self.averages is None else self.averages.shown()

    def _finite(self, step: int, loss: float) -> float:
        if not math.isfinite(loss):
            raise KontextSliderError(
                f"The loss is {loss} at step {step + 1}. The newest checkpoint is from before: lower the rate and "
                "start in a new folder."
            )
        return loss
