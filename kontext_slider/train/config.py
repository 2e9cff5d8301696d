"""The settings of a training run, checked before it begins, noted in its folder, and the presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kontext_slider import files, run_folder
from kontext_slider.base import Place
from kontext_slider.edit import MAX_STRENGTH
from kontext_slider.errors import InvalidInput
from kontext_slider.train.flow import Timesteps, Weighting
from kontext_slider.train.pocket.pairs import HIGHEST, PRACTISED, SLIDER_SIZES, ShardSize

RUN_FILE, CHECKPOINTS = "run.json", "checkpoints"
INPUTS, START = "data_or_base_model", "weights_of_start"  # digests in RUN_FILE
MACHINE = ("device", "compiled")  # a run may be resumed on another machine
Settings = TypeVar("Settings", bound=BaseModel)
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class RunConfig(BaseModel):
    """What every run has. The numbers are the paper's (appendix A.1 and A.3; what it leaves open, from its release).

    Attributes:
        start: a model folder of the same sizes, or a slider of a smaller LoRA rank, whose weights the run starts from;
            None for fresh weights.
        device: "cpu", or "auto" for what accelerate finds.
        compiled: whether the transformer's blocks are compiled, where this machine has a C++ compiler.
        accumulation: parts, one after another, in which a process takes its share of the batch.
        steps, rate, warmup, decay: optimiser steps; peak learning rate, after linear `warmup` steps constant or falling
            linearly to zero.
        clip: largest norm of the gradient.
        precision: "bf16" for autocast.
        ema: decay of averaged weights, which are then previewed and saved; None for none.
        checkpoint_every, log_every: in steps.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    start: Path | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Literal["cpu", "auto"] = "auto"
    compiled: bool = False
    accumulation: Count = 1
    steps: Natural = 110_000
    rate: Share = 2e-5
    warmup: Count = 200
    decay: Literal["constant", "linear"] = "constant"
    optimiser: Literal["adamw", "adamw8bit"] = "adamw8bit"
    beta2: BelowOne = 0.999
    weight_decay: Share = 1e-4
    clip: Positive = 1.0
    precision: Literal["no", "bf16"] = "bf16"
    ema: Share | None = None
    checkpoint_every: Count = 1000
    log_every: Count = 10

    def factor(self, step: int) -> float:
        """What the peak learning rates are multiplied by at `step` in [0, steps): a function of the step alone, so that
        a resumed run has nothing to restore. diffusers' schedules would spend the first step at rate 0."""
        rising = min((step + 1) / self.warmup, 1.0)
        if self.decay == "constant":
            return rising
        return min(rising, (self.steps - step) / max(self.steps - self.warmup, 1))

    def facts(self) -> dict[str, Any]:
        """The settings that decide what is trained, as JSON."""
        return self.model_dump(mode="json", exclude=set(MACHINE))

    def changed(self, **changes: Any) -> Self:
        """The same run with other settings. InvalidInput for a setting that is not there or cannot be."""
        return parse(type(self), self.model_dump(mode="json") | changes)


class SliderConfig(RunConfig):
    """A slider's run. The defaults are the paper's.

    Attributes:
        model: the base model, a name of `presets.PRESETS`, a folder or a hub id.
        kind: where the strength enters: "modulation" as shipped, or an ablation (`variants`).
        size: side in pixels of a square of the frames' area; the aspect ratio stays.
        max_sequence_length: tokens of the second text encoder.
        batch_size: rows of one optimiser step, over all processes and accumulation steps together.
        sizes, practised: without a data set, synthetic pairs are drawn: of these sizes and batches, and edits that are
            drawn more often (`pocket.pairs`).
        timesteps: "uniform" in (0, 1]; "near_one", 1 - u^2; or "one" alone (`flow.sample_sigmas`).
        noise_scale: share of the noise that is trained with, as `EditDefaults.noise_scale` of sampling.
        weighting: of the squared velocity error: "none", or "sigma_squared", the error of the picture.
        channel_weights: whether latent channels are weighted by what their errors show in a picture, where the codec
            says so.
        anchored: for models with the source residual correction: whether frames are trained as corrected
            (`flow.corrected_error`), which takes a second forward pass, at strength 0.
        loss: "square", the mean of squared errors, or "log", of the logarithms of rows (`flow.log_square`): the mean
            PSNR, near enough.
        slider_drop: share of rows trained without a strength.
        rank, hidden_dim, strength_dim, strength_encoding, place, highest_strength, degree: of LoRA and
            projector; no row of the data has a higher strength.
        gradient_checkpointing: less memory for a third more time.
        held_out, preview_every: rows that are not trained on and that the validation strips show; steps between strips.
    """

    model: str = "kontext-dev"
    kind: Literal["modulation", "text-space", "no-pooled"] = "modulation"
    size: Count = 512
    max_sequence_length: Count = 512
    batch_size: Count = 8
    sizes: tuple[ShardSize, ...] = ()
    practised: tuple[str, ...] = ()
    timesteps: Timesteps = "uniform"
    noise_scale: Share = 1.0
    weighting: Weighting = "none"
    channel_weights: bool = False
    anchored: bool = False
    loss: Literal["square", "log"] = "square"
    slider_drop: Share = 0.1
    rank: Count = 4
    hidden_dim: Count = 6144
    strength_dim: Annotated[int, Field(ge=2)] = 128
    strength_encoding: Literal["release", "sinusoidal"] = "sinusoidal"
    place: Place = "text_stream"
    highest_strength: Annotated[float, Field(ge=1, le=MAX_STRENGTH)] = 1.0
    degree: Count | None = None
    gradient_checkpointing: bool = True
    held_out: Natural = 4
    preview_every: Count = 1000

    def rows_per_part(self, num_processes: int) -> int:
        """Rows that one process takes at a time. InvalidInput when the batch does not divide."""
        parts = num_processes * self.accumulation
        if self.batch_size % parts:
            raise InvalidInput(
                f"A batch of {self.batch_size} does not divide into {num_processes} processes x {self.accumulation} "
                f"accumulation steps. Make batch_size a multiple of {parts}."
            )
        return self.batch_size // parts


PAPER = SliderConfig()
SMALL: dict[str, Any] = {  # of the pocket model's base and slider, whose pictures differ in their seeds
    "compiled": True, "rate": 1e-3, "warmup": 100, "decay": "linear", "optimiser": "adamw", "beta2": 0.99,
    "weight_decay": 0.01, "checkpoint_every": 200,
}  # fmt: skip
POCKET = SliderConfig(  # from nothing; the shipped slider had such settings, but went on from earlier ones
    **SMALL,
    model="pocket",
    seed=2,
    size=256,
    max_sequence_length=16,
    sizes=SLIDER_SIZES,
    practised=PRACTISED,
    steps=2800,
    timesteps="one",
    noise_scale=0.1,
    weighting="sigma_squared",
    channel_weights=True,
    anchored=True,
    loss="log",
    slider_drop=0.0,
    rank=32,
    hidden_dim=384,
    strength_dim=2,
    strength_encoding="release",
    place="time_text_embed",
    highest_strength=HIGHEST,
    degree=3,
    gradient_checkpointing=False,
    preview_every=500,
)
AS_THE_PAPER: dict[str, Any] = {  # the slider as the paper has it, in pocket's sizes, over pocket's base and codec
    "place": "text_stream", "anchored": False, "timesteps": "near_one", "noise_scale": 1.0, "loss": "square", "rank": 8,
    "slider_drop": 0.1, "strength_dim": 128, "strength_encoding": "sinusoidal", "highest_strength": 1.0, "degree": None,
}  # fmt: skip
ABLATIONS: dict[str, dict[str, Any]] = {  # the paper's (section 4, table 2); "full" is the preset without a suffix
    "": {},
    "-text-space": {"kind": "text-space"},
    "-no-pooled": {"kind": "no-pooled"},
    "-no-filtering": {},  # on the data of `data pack --unfiltered`
}


def parse(kind: type[Settings], values: Any) -> Settings:
    """Settings from JSON values by name. InvalidInput names the first that is not there or cannot be."""
    try:
        return kind.model_validate_json(json.dumps(values, default=_plain))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "It"
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise InvalidInput(f"There is no setting {name}. There are: {known}.") from error
        raise InvalidInput(f"{name} cannot be {first['input']!r}: {first['msg']}.") from error


def _plain(value: Any) -> Any:
    """What JSON has no word for: paths and shard sizes."""
    return str(value) if isinstance(value, Path) else vars(value)


PRESETS: dict[str, SliderConfig] = {
    f"{name}{suffix}": full.changed(**changes)
    for name, full in (("pocket", POCKET), ("pocket-paper", POCKET.changed(**AS_THE_PAPER)), ("kontext-dev", PAPER))
    for suffix, changes in ABLATIONS.items()
}


def with_settings(config: SliderConfig, settings: list[str]) -> SliderConfig:
    """The configuration with settings such as "steps=100" in place. InvalidInput for one that is not there."""
    return config.changed(**read_settings(settings))


def read_settings(settings: list[str]) -> dict[str, Any]:
    """Settings such as "steps=100" by name, their values as JSON, or as text where they are none."""
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InvalidInput(f"A setting has the form NAME=VALUE, such as steps=100, not {setting!r}.")
        try:
            changes[name] = json.loads(text)
        except ValueError:
            changes[name] = text
    return changes


def open_run(folder: Path, config: RunConfig, inputs: str = "") -> None:
    """Note in `folder/run.json` what the run is made of, or compare it with the note that is there.

    inputs: a digest of data and base model. Raises InvalidInput where the folder holds another run, or checkpoints of
    which nothing is noted."""
    note, facts = folder / RUN_FILE, {INPUTS: inputs}
    if not note.exists() and (folder / CHECKPOINTS).exists():
        run_folder.read_run(note)
    if config.start is not None:
        facts[START] = files.folder_sha256(config.start)
    run_folder.open_run(note, config.facts() | facts, {name: getattr(config, name) for name in MACHINE})


def check_run(folder: Path, config: RunConfig) -> None:
    """Raise InvalidInput when a run is in the folder and was begun with other settings."""
    if (folder / RUN_FILE).exists():
        run_folder.check_run(folder / RUN_FILE, config.facts())


def read_run(folder: Path) -> SliderConfig:
    """The settings of a slider's run. InvalidInput where the file cannot be read."""
    noted = run_folder.read_run(folder / RUN_FILE)
    return parse(SliderConfig, {name: value for name, value in noted.items() if name not in (INPUTS, START)})
