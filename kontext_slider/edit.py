"""The settings of an edit: what they are, their limits, and the sentence for a value that cannot be used.

All checks return the value as a plain Python number or text, or raise InvalidInput. Importing this loads no library.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, InvalidInput

if TYPE_CHECKING:
    import numpy as np

MAX_STRENGTH = 1.5  # where extrapolation is allowed; 1 is the full edit
MAX_SEED = 2**63 - 1  # of torch's generators
MAX_STEPS = 1000  # the models are trained on as many noise levels
MAX_FRAMES = 1001  # of a sweep
MAX_TOKENS = 512  # of an instruction, of the second text encoder
MIN_SIZE, MAX_SIZE = 16, 2048  # side in pixels of a square of the same area as the model's frames
SPEED_NAMES = ("exact", "fast", "fastest")  # `engine/speed.py` has what they mean
DTYPES = ("float32", "bfloat16", "float16")  # of a model's weights
QUANTIZATIONS = ("int8",)  # see `memory.py`


@dataclass(frozen=True)
class EditDefaults:
    """Settings of an edit; a model folder may carry its own under "edit_defaults" of its `model_index.json`."""

    size: int = 512  # side in pixels of a square with the area of the working image
    steps: int = 28  # denoise steps
    base_steps: int | None = None  # of an edit by the base model alone, where these are others
    guidance: float = 2.5  # distilled; ignored by transformers without a guidance input
    max_sequence_length: int = 512  # tokens of the second text encoder, at most 512
    anchor_source: bool = False  # frames are held to the source, the more the weaker they are (`residual.py`)
    noise_scale: float = 1.0  # of the noise that frames start from; 0 is its mean

    @property
    def steps_of_base(self) -> int:
        """Denoise steps of an edit by the base model alone, as in the data to train on and in baselines."""
        return self.steps if self.base_steps is None else self.base_steps

    @classmethod
    def from_config(cls, values: Mapping[str, Any] | None) -> EditDefaults:
        """Defaults with the given ones in place. Raises CheckpointError for a name that does not exist, and for a value
        that no model can use."""
        known = {field.name for field in fields(cls)}
        values = {} if values is None else values
        if not isinstance(values, Mapping):
            raise CheckpointError("The model's edit_defaults are no settings by name. Correct model_index.json.")
        if unknown := sorted(set(map(str, values)) - known):
            raise CheckpointError(
                f"The model's edit_defaults name {', '.join(unknown)}; only {', '.join(sorted(known))} exist. "
                "Correct model_index.json."
            )
        defaults = cls(**values)
        try:
            for name in known & MODEL_CHECKS.keys():
                MODEL_CHECKS[name](getattr(defaults, name))
        except InvalidInput as error:
            raise CheckpointError(f"The model's edit_defaults cannot be used. {error}") from error
        return defaults


@dataclass(frozen=True)
class EditSpec:
    """What the frames of an edit depend on besides picture, strength and model: values, so it can be in a cache key.

    Raises InvalidInput for a value that no model can use.
    """

    instruction: str
    seed: int  # of the noise that all strengths start from
    steps: int
    guidance: float
    size: int  # as in EditDefaults; frames keep the source's aspect ratio
    max_sequence_length: int = 512

    def __post_init__(self) -> None:
        for name, check in CHECKS.items():
            object.__setattr__(self, name, check(getattr(self, name)))

    @classmethod
    def from_defaults(
        cls,
        defaults: EditDefaults,
        instruction: str,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
    ) -> EditSpec:
        """The given settings, and the model's own in place of None."""
        return cls(
            instruction,
            seed,
            defaults.steps if steps is None else steps,
            defaults.guidance if guidance is None else guidance,
            defaults.size if size is None else size,
            defaults.max_sequence_length,
        )

    def facts(self) -> dict[str, Any]:
        """What exported files embed of it, as JSON values by name."""
        return {name: getattr(self, name) for name in ("instruction", "seed", "steps", "guidance")}


@dataclass(frozen=True, eq=False)
class EarlierEdit:
    """An edit that a photograph went through before the one that is open.

    facts: how it was made, as exported files embed it: those of `EditSpec.facts`, and `edited_at`.
    strength: from 0 to 1.5. share: of the strength for every place, (H, W) floats in [0, 1]; None for the whole.
    """

    facts: Mapping[str, Any]
    strength: float
    share: np.ndarray | None = None

    @property
    def instruction(self) -> str:
        return self.facts["instruction"]


def check_instruction(instruction: Any, most_letters: int | None = None) -> str:
    """The instruction as it is. `most_letters`: a limit of the caller's own."""
    if not isinstance(instruction, str) or not instruction.strip():
        raise InvalidInput('Say what to change, such as "make it snow": the instruction is empty or not text.')
    if _has_surrogates(instruction):
        raise InvalidInput("The instruction holds half a letter (a lone surrogate), which is no text. Type it again.")
    if most_letters is not None and len(instruction) > most_letters:
        raise InvalidInput(f"An instruction has at most {most_letters} letters; this one has {len(instruction)}.")
    return instruction


def check_seed(seed: Any) -> int:
    return check_whole("seed", seed, 0, MAX_SEED)


def check_steps(steps: Any, most: int = MAX_STEPS) -> int:
    """`most`: a limit of the caller's own, at most MAX_STEPS."""
    return check_whole("number of steps", steps, 1, most)


def check_guidance(guidance: Any, least: float = 0, most: float = sys.float_info.max) -> float:
    """`least`, `most`: limits of the caller's own."""
    number = _number(guidance)
    if number is None or not least <= number <= most:
        limits = f"of {least:g} or more" if most == sys.float_info.max else f"from {least:g} to {most:g}"
        raise InvalidInput(f"The guidance must be a number {limits}, such as 2.5, not {shown(guidance)}.")
    return number


def check_base_steps(steps: Any) -> int | None:
    return None if steps is None else check_steps(steps)


def check_noise_scale(scale: Any) -> float:
    number = _number(scale)
    if number is None or not 0 <= number <= 1:
        raise InvalidInput(f"The noise_scale must be a number from 0 to 1, not {shown(scale)}.")
    return number


def check_size(size: Any, least: int = 1) -> int:
    """`least`: pixels that a token of the model covers."""
    return check_whole("size", size, least, MAX_SIZE, " of pixels")


def check_num_frames(num_frames: Any, most: int = MAX_FRAMES) -> int:
    """`most`: a limit of the caller's own, at most MAX_FRAMES."""
    return check_whole("number of frames", num_frames, 2, most)


def check_whole(name: str, value: Any, low: int, high: int, unit: str = "") -> int:
    """A whole number in [low, high]; `name` is what the sentence calls it."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:
        raise InvalidInput(f"The {name} must be a whole number{unit} from {low} to {high}, not {shown(value)}.")
    return int(value)


def check_strength(strength: Any, highest: float = 1.0) -> float:
    """One number in [0, `highest`]."""
    number = _number(strength)
    if number is None or not 0.0 <= number <= highest:
        beyond = "" if highest == 1 else f", or up to {highest:g} to extrapolate"
        words = shown(strength)
        raise InvalidInput(f"A strength is a number from 0 (untouched) to 1 (full edit){beyond}, not {words}.")
    return number


def check_strengths(value: float | Sequence[float], highest: float = 1.0) -> list[float]:
    """One strength or several (list, tuple, array, tensor) as a list of floats in [0, `highest`].

    Raises InvalidInput (a ValueError) for an empty list, text, booleans, NaN and numbers outside the range.
    """
    plain: Any = value.tolist() if hasattr(value, "tolist") else value
    items = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str | bytes) else [plain]
    if not items:
        raise InvalidInput("The list of strengths is empty. Give at least one number from 0 (untouched) to 1 (full).")
    return [check_strength(item, highest) for item in items]


def shown(value: Any) -> str:
    """A value as a sentence names it: short, whatever it is."""
    try:
        words = repr(value)
    except Exception:  # a stranger's object; a whole number of thousands of digits
        words = f"a value of the type {type(value).__name__}"
    return words if len(words) <= 60 else f"{words[:57]}..."


def _number(value: Any) -> float | None:
    """A real number as a float; None for NaN, one that no float can hold, and anything else."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return None if math.isnan(number) else number


def _has_surrogates(text: str) -> bool:
    """Whether `text` cannot be written as UTF-8, or given to a tokenizer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


CHECKS: dict[str, Callable[[Any], Any]] = {
    "instruction": check_instruction,
    "seed": check_seed,
    "steps": check_steps,
    "guidance": check_guidance,
    "size": check_size,
    "max_sequence_length": partial(check_whole, "max_sequence_length", low=1, high=MAX_TOKENS),
}
# of what a model's folder may say
MODEL_CHECKS = CHECKS | {"noise_scale": check_noise_scale, "base_steps": check_base_steps}
