"""What a training run is: one frozen dataclass, and one JSON file in the run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from kontext_slider import files
from kontext_slider.edit import MAX_STRENGTH
from kontext_slider.errors import InvalidInput
from kontext_slider.projector import ENCODINGS, Place
from kontext_slider.train.flow import Weighting
from kontext_slider.train.loop import Schedule

Kind = Literal["modulation", "text-space", "no-pooled"]
Timesteps = Literal["uniform", "near_one"]
Optimiser = Literal["adamw", "adamw8bit"]
Precision = Literal["no", "bf16"]
Tracker = Literal["tensorboard", "none"]
Decay = Literal["constant", "linear"]

RUN_FILE = "run.json"
INPUTS = "data_or_base_model"  # their digest, in that file


@dataclass(frozen=True)
class SliderConfig:
    """One run. The defaults are the paper's numbers (appendix A.1 and A.3; what it leaves open, from its release).

    Attributes:
        model: the base model, a name of `presets.PRESETS`, a folder or a hub id.
        kind: where the strength enters: "modulation" as shipped, or an ablation (`ablations.py`).
        size: side in pixels of a square of the frames' area; the aspect ratio stays.
        max_sequence_length: tokens of the second text encoder.
        batch_size: rows of one optimiser step, over all processes and accumulation steps together.
        accumulation: parts, one after another, in which a process takes its share of the batch.
        steps, rate, warmup, decay: optimiser steps; peak learning rate, after linear `warmup` steps constant or falling
            linearly to zero.
        clip: largest norm of the gradient.
        precision: "bf16" for autocast.
        guidance: the distilled guidance that the transformer hears; ignored where it has no such input.
        timesteps: "uniform" in (0, 1], or "near_one", 1 - u^2 (`flow.sample_sigmas`).
        weighting: of the squared velocity error: "none", or "sigma_squared", the error of the picture.
        anchored: for models whose strength 0 is the source itself: whether frames are trained as these show them
            (`flow.shown_error`), which takes a second forward pass, at strength 0.
        slider_drop: share of rows trained without a strength.
        rank, hidden_dim, num_layers, strength_dim, strength_encoding, place, highest_strength, degree: of LoRA and
            projector; no row of the data has a higher strength.
        gradient_checkpointing: less memory for a third more time.
        ema: decay of averaged weights, which are then what is shown and saved; None for none.
        held_out: rows that are not trained on and that the validation strips show.
        checkpoint_every, keep_checkpoints, preview_every, log_every: in optimiser steps; number of checkpoints kept.
        tracker: accelerate's tracker.
    """

    model: str = "kontext-dev"
    kind: Kind = "modulation"
    seed: int = 0
    size: int = 512
    max_sequence_length: int = 512
    batch_size: int = 8
    accumulation: int = 1
    steps: int = 110_000
    rate: float = 2e-5
    warmup: int = 200
    decay: Decay = "constant"
    optimiser: Optimiser = "adamw8bit"
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-4
    clip: float = 1.0
    precision: Precision = "bf16"
    guidance: float = 1.0
    timesteps: Timesteps = "uniform"
    weighting: Weighting = "none"
    anchored: bool = False
    slider_drop: float = 0.1
    rank: int = 4
    hidden_dim: int = 6144
    num_layers: int = 4
    strength_dim: int = 128
    strength_encoding: str = "sinusoidal"
    place: Place = "text_stream"
    highest_strength: float = 1.0
    degree: int | None = None
    gradient_checkpointing: bool = True
    ema: float | None = None
    held_out: int = 4
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    preview_every: int = 1000
    log_every: int = 10
    tracker: Tracker = "tensorboard"

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), getattr(type(self), field.name))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidInput(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is at least 1, not {getattr(self, name)}.")
        for name, low, high in RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InvalidInput(f"{name} lies from {low} to {high}, not {value}.")
        for name in BELOW_ONE:
            if getattr(self, name) >= 1:
                raise InvalidInput(f"{name} is below 1, not {getattr(self, name)}.")

    def factor(self, step: int) -> float:
        """What the peak learning rate is multiplied by at `step` in [0, steps)."""
        if self.decay == "linear":
            return Schedule(self.steps, self.warmup).factor(step)
        return min((step + 1) / self.warmup, 1.0)

    def rows_per_part(self, num_processes: int) -> int:
        """Rows that one process takes at a time. InvalidInput when the batch does not divide."""
        parts = num_processes * self.accumulation
        if self.batch_size % parts:
            raise InvalidInput(
                f"A batch of {self.batch_size} does not divide into {num_processes} processes x {self.accumulation} "
                f"accumulation steps. Make batch_size a multiple of {parts}."
            )
        return self.batch_size // parts


CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "timesteps": get_args(Timesteps),
    "weighting": get_args(Weighting),
    "optimiser": get_args(Optimiser),
    "precision": get_args(Precision),
    "tracker": get_args(Tracker),
    "decay": get_args(Decay),
    "strength_encoding": ENCODINGS,
    "place": get_args(Place),
}
AT_LEAST_ONE = (
    "size", "max_sequence_length", "batch_size", "accumulation", "steps", "warmup", "rank", "hidden_dim",
    "checkpoint_every", "keep_checkpoints", "preview_every", "log_every",
)  # fmt: skip
BELOW_ONE = ("beta1", "beta2")
RANGES = (
    ("seed", 0, 2**32 - 1),
    ("rate", 0, 1),
    ("beta1", 0, 1),
    ("beta2", 0, 1),
    ("weight_decay", 0, 1),
    ("clip", 0, float("inf")),
    ("guidance", 0, float("inf")),
    ("slider_drop", 0, 1),
    ("highest_strength", 1, MAX_STRENGTH),
    ("degree", 1, float("inf")),
    ("ema", 0, 1),
    ("held_out", 0, float("inf")),
)
OPTIONAL: dict[str, tuple[type, ...]] = {"degree": (int,), "ema": (float, int)}  # or None


def with_settings(config: SliderConfig, settings: list[str]) -> SliderConfig:
    """The configuration with settings such as "steps=100" in place. InvalidInput for one that is not there."""
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InvalidInput(f"A setting has the form NAME=VALUE, such as steps=100, not {setting!r}.")
        changes[name] = _parsed(text)
    _check_names(changes)
    return replace(config, **changes)


def open_run(folder: Path, config: SliderConfig, inputs: str) -> None:
    """Note in `folder/run.json` what the run is made of, or compare it with the note of a run that is there.

    inputs: a digest of data and base model."""
    files.open_run(folder / RUN_FILE, asdict(config) | {INPUTS: inputs})


def check_run(folder: Path, config: SliderConfig) -> None:
    """Raise InvalidInput when a run is in the folder and was begun with other settings."""
    if (folder / RUN_FILE).exists():
        files.check_run(folder / RUN_FILE, asdict(config))


def read_run(folder: Path) -> SliderConfig:
    """Configuration of a run. InvalidInput where the file cannot be read."""
    config = files.read_run(folder / RUN_FILE)
    config.pop(INPUTS, None)
    _check_names(config)
    return SliderConfig(**config)


def _check_names(values: dict[str, Any]) -> None:
    known = [field.name for field in fields(SliderConfig)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidInput(f"A run has no setting {', '.join(unknown)}. There are: {', '.join(known)}.")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_type(name: str, value: Any, default: Any) -> None:
    """Numbers where numbers are, words where words are; a whole number does for a fraction."""
    if name in OPTIONAL and value is None:
        return
    kinds = OPTIONAL.get(name) or ((float, int) if isinstance(default, float) else (type(default),))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise InvalidInput(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, not {value!r}.")
