"""The slider's trainer, for any Kontext model and any data: a projector and a LoRA over a frozen transformer.

A run's folder holds, besides what `loop` writes, `cache/` (of a data set), `previews/` and, at the end, the slider in
our layout in `slider/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.base import family_of
from kontext_slider.checkpoint import read_slider
from kontext_slider.files import weights_sha256
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import NoPooledProjector, Projector, StrengthProjector, TextSpaceProjector
from kontext_slider.run_folder import alone_in
from kontext_slider.slider_weights import slider_on
from kontext_slider.train.config import SliderConfig, check_run, open_run
from kontext_slider.train.dataset import DataSet
from kontext_slider.train.flow import (
    SliderBatch,
    corrected_error,
    flow_error,
    log_square,
    weighted_square,
)
from kontext_slider.train.loop import (
    Loop,
    OnStep,
    check_optimiser,
    compile_blocks,
    make_accelerator,
    make_optimizers,
    trained,
)
from kontext_slider.train.pocket.batches import SliderPairs, channel_weights, check_draws
from kontext_slider.train.preview import write_strips
from kontext_slider.train.rows import RowBatches, encode_rows, held_out_rows
from kontext_slider.variants import save_variant

PROJECTOR = ("hidden_dim", "strength_dim", "strength_encoding", "highest_strength", "degree")


def train_slider(
    pipe: KontextSliderPipeline,
    config: SliderConfig,
    folder: Path,
    data: Path | Sequence[Path] | None = None,
    cache: Path | None = None,
    on_step: OnStep = lambda step, loss: None,
) -> None:
    """Train (or resume) a slider on a base pipeline, in place, and save it to `folder/slider`.

    Under `accelerate launch`, every process calls this with its own pipeline.

    Args:
        pipe: the base; a slider that is on it is replaced.
        folder: the run; where one with the same settings is there, it is resumed.
        data: folder of Parquet files with `frames`, `strengths` and `instruction`, or several; without one, synthetic
            pairs of `config.sizes` are drawn.
        cache: where encoded rows are kept, for several runs to share; `folder/cache` by default.
        on_step: called after every step.

    The pipeline keeps the last weights; saved are the averaged ones where `config.ema` asks for them.

    Raises InvalidInput for settings that do not fit the machine, the data or the run in the folder.
    """
    rows = check_start(config, folder, data)
    accelerator = make_accelerator(config)
    if rows is not None:
        config.rows_per_part(accelerator.num_processes)
    with alone_in(folder) if accelerator.is_main_process else nullcontext():
        _train(pipe, config, folder, accelerator, rows, cache or folder / "cache", on_step)


def check_start(config: SliderConfig, folder: Path, data: Path | Sequence[Path] | None) -> DataSet | None:
    """Refuse what can be refused before a model is loaded or a row encoded, with InvalidInput or CheckpointError:
    another run in the folder, a package that is not installed, a data set that cannot be read or is too small. Nothing
    is written. Returns the data set."""
    check_run(folder, config)
    check_optimiser(config)
    if data is None:
        check_draws(config)
        return None
    rows = DataSet([data] if isinstance(data, Path) else data)
    held_out_rows(len(rows), config.held_out)
    return rows


def _train(
    pipe: KontextSliderPipeline,
    config: SliderConfig,
    folder: Path,
    accelerator: Accelerator,
    data: DataSet | None,
    cache: Path,
    on_step: OnStep,
) -> None:
    """As `train_slider`, in a folder that belongs to this run."""
    pipe.to(accelerator.device)
    pipe.unload_slider()
    source: RowBatches | SliderPairs
    if data is None:
        source = SliderPairs(pipe, config, folder)
    else:
        source = RowBatches(encode_rows(pipe, config, data, cache, accelerator), config)
    inputs = f"{source.key}-{weights_sha256(pipe.transformer)[:16]}"
    with accelerator.main_process_first():
        open_run(folder, config, inputs)
    with _made_to_train(pipe):
        _fit(pipe, config, folder, accelerator, source, on_step)
        accelerator.free_memory()  # the wrapped model first: freed behind its process group, torch's gloo may never end
        accelerator.end_training()


def _fit(
    pipe: KontextSliderPipeline,
    config: SliderConfig,
    folder: Path,
    accelerator: Accelerator,
    source: RowBatches | SliderPairs,
    on_step: OnStep,
) -> None:
    """Train to the end and save."""
    model = SliderModel(pipe, config)
    if config.compiled:
        compile_blocks(pipe.transformer)
    loop = Loop(model, make_optimizers(model, config), source.draw, config, folder, accelerator)

    def after(step: int, loss: float) -> None:
        if step % config.preview_every == 0 or step == config.steps:
            preview(pipe, model, source, loop, step)
        on_step(step, loss)

    loop.run(after)
    if accelerator.is_main_process:
        with loop.averaged():
            save_variant(folder / "slider", model.projector, pipe.transformer)
    accelerator.wait_for_everyone()


def preview(
    pipe: KontextSliderPipeline, model: SliderModel, source: RowBatches | SliderPairs, loop: Loop, step: int
) -> None:
    """Strips of a data set's held-out rows, by the weights that would be saved now."""
    if isinstance(source, RowBatches) and source.held_out and loop.accelerator.is_main_process:
        path = loop.folder / "previews" / f"step-{step:06d}.png"
        with loop.averaged():
            write_strips(pipe, model.projector, source.rows, source.held_out, path, loop.config.seed)
    loop.accelerator.wait_for_everyone()


@contextmanager
def _made_to_train(pipe: KontextSliderPipeline) -> Iterator[None]:
    """Text encoders, which are no longer needed, out of the device's memory inside the block; the transformer is an
    inference model again behind it."""
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


class SliderModel(nn.Module):
    """Transformer and projector as one module, so that what wraps it (autocast, several processes) sees every step.

    What is trained is in float32, whatever the precision of the frozen weights.
    """

    def __init__(self, pipe: KontextSliderPipeline, config: SliderConfig) -> None:
        super().__init__()
        self.projector = fresh_slider(pipe, config)
        if config.start is not None:
            load_start(pipe, self.projector, config.start)
        self.transformer, self.config = pipe.transformer, config
        channels = channel_weights(pipe.vae) if config.channel_weights else None
        self.register_buffer("channels", channels, persistent=False)
        nn.Module.to(self.projector, pipe.transformer.device)
        for parameter in trained(self).values():
            parameter.data = parameter.data.float()
        if config.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.transformer.train()

    def forward(self, batch: SliderBatch) -> Tensor:
        """The loss of a batch, a scalar."""
        config = self.config
        rows = batch.with_untouched() if config.anchored else batch
        with slider_on(self.transformer, self.projector, rows.strengths, rows.pooled, rows.kept):
            inputs = (rows.source, rows.target, rows.text, rows.pooled, rows.sigmas, rows.noise)
            error = flow_error(self.transformer, *inputs, config.weighting)
        if config.anchored:
            frame, untouched = error.chunk(2)
            error = corrected_error(frame, untouched * batch.kept[:, None, None], batch.strengths)
        if config.loss == "log":
            return log_square(error, self.channels)
        return weighted_square(error, batch.weights, self.channels)


def fresh_slider(pipe: KontextSliderPipeline, config: SliderConfig) -> Projector:
    """Put an untrained slider on a frozen pipeline, in the place of one that is there: last layer zero, LoRA without
    effect. Returns its projector, which is the pipeline's own too unless the kind is "text-space"."""
    torch.manual_seed(config.seed)
    for module in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2):
        module.requires_grad_(False)
    sizes, rank = pipe.transformer.config, config.rank
    settings: dict[str, Any] = {name: getattr(config, name) for name in PROJECTOR}
    if config.kind == "text-space":
        token = TextSpaceProjector(sizes.pooled_projection_dim, token_dim=sizes.joint_attention_dim, **settings)
        targets = list(family_of(pipe.transformer).lora_targets)
        pipe.unload_slider()
        lora.add_lora(
            pipe.transformer,
            LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="gaussian"),
        )
        return token.zero_last_layer()
    plain = NoPooledProjector if config.kind == "no-pooled" else StrengthProjector
    width = pipe.transformer.inner_dim
    offsets = plain(sizes.pooled_projection_dim, modulation_dim=width, place=config.place, **settings)
    pipe.add_slider(offsets.zero_last_layer(), rank)
    return offsets


def load_start(pipe: KontextSliderPipeline, projector: nn.Module, start: Path) -> None:
    """Take the weights of an earlier slider of the same sizes. A LoRA of a smaller rank is widened by the fresh one's
    rows, which have no effect before they are trained."""
    earlier, fresh = read_slider(start), lora.take_lora(pipe.transformer)
    projector.load_state_dict(earlier.projector.state_dict())
    lora.put_lora(pipe.transformer, earlier.lora.widened(fresh) if fresh else earlier.lora)
    for parameter in lora.slider_lora_parameters(pipe.transformer):
        parameter.requires_grad_(True)
