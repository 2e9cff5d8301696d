"""Flags that several sub-commands share, and the engine that they describe."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..edit import (
    DTYPES,
    MAX_STRENGTH,
    MIN_SIZE,
    QUANTIZATIONS,
    SPEED_NAMES,
    check_guidance,
    check_instruction,
    check_seed,
    check_size,
    check_steps,
    check_strength,
)
from ..errors import InvalidInput
from ..instructions import advise

if TYPE_CHECKING:
    from ..engine import SliderEngine

Number = TypeVar("Number", int, float)
Value = TypeVar("Value")
CHATTY = ("torchao", "torch.utils._pytree")  # loggers


def add_model_arguments(parser: argparse.ArgumentParser, has_slider: bool = True) -> None:
    """Flags that name a model, the weights of its slider where `has_slider`, and where it runs."""
    parser.add_argument("--model", default="pocket", help="pocket, kontext-dev, a model folder or a hub id")
    if has_slider:
        parser.add_argument("--slider", help="slider weights, a folder or a hub id (default: the model's own)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first that is there)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: by the device")


def add_edit_arguments(parser: argparse.ArgumentParser, strength_help: str) -> None:
    """Flags of an edit, or of several one after the other, and of the model that makes them."""
    parser.add_argument(
        "-i",
        "--instruction",
        dest="instructions",
        action="append",
        required=True,
        type=checked(str, check_instruction),
        help='such as "make it snow"; give it again for a further edit of the result',
    )
    parser.add_argument(
        "-s",
        "--strength",
        dest="strengths",
        action="append",
        default=[],
        type=checked(float, partial(check_strength, highest=MAX_STRENGTH)),
        help=strength_help,
    )
    add_model_arguments(parser)
    parser.add_argument("--seed", type=checked(int, check_seed), default=0, help="of the noise (default: 0)")
    parser.add_argument("--steps", type=checked(int, check_steps), help="denoise steps (default: the model's)")
    parser.add_argument("--guidance", type=checked(float, check_guidance), help="guidance scale (default: the model's)")
    parser.add_argument(
        "--size",
        type=checked(int, partial(check_size, least=MIN_SIZE)),
        help="side in pixels of a square of the same area as the result (default: the model's)",
    )
    add_engine_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, only problems")


def add_engine_arguments(parser: argparse.ArgumentParser, speed: str = "exact") -> None:
    """How frames are computed, by default at `speed`, and where they are kept; the engine says what both mean."""
    parser.add_argument(
        "--speed",
        choices=SPEED_NAMES,
        default=speed,
        help="exact, or a little off: 40 dB of PSNR or more for a fast edit, 32 for a fastest (default: %(default)s)",
    )
    parser.add_argument(
        "--low-vram",
        action="store_true",
        help="keep on the device what a new strength needs: 18 GB of FLUX Kontext in place of 33; edits open slower",
    )
    parser.add_argument("--spare-memory", dest="low_vram", action="store_true", help=argparse.SUPPRESS)  # its old name
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="let torch compile the transformer: a size's first frame waits (default: where fastest has fp8)",
    )
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        help="keep the transformer's blocks as int8: 9 GB of FLUX Kontext in place of 17 (needs torchao)",
    )
    parser.add_argument(
        "--frame-folder",
        metavar="PATH",
        help="keep finished frames there, at most 1 GiB, and find them again in later runs (default: memory only)",
    )


def checked(kind: Callable[[str], Any], check: Callable[[Any], Value]) -> Callable[[str], Value]:
    """The type of a flag whose value `check` of `edit.py` takes, as a `kind`."""

    def parse(text: str) -> Value:
        value: Any = text
        with contextlib.suppress(ValueError):
            value = kind(text)
        try:
            return check(value)
        except InvalidInput as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def check_share(text: str) -> str:
    """ "K/N", the K-th of N shares of the work, K from 0 to N - 1. `share_of` reads it."""
    first, slash, step = text.partition("/")
    if not (slash and first.isdecimal() and step.isdecimal() and int(first) < int(step)):
        raise InvalidInput(f"a share is K/N with K from 0 to N - 1, such as 0/4, not {text!r}")
    return text


def share_of(text: str) -> tuple[int, int]:
    """ "K/N" as numbers."""
    first, step = map(int, text.split("/"))
    return first, step


def number(kind: Callable[[str], Number], low: Number, high: Number) -> Callable[[str], Number]:
    """The type of a numeric flag from `low` to `high`."""

    def check(value: Any) -> Number:
        if isinstance(value, str) or not low <= value <= high:
            words = "a whole number" if kind is int else "a number"
            raise InvalidInput(f"must be {words} from {low} to {high}, not {value!r}")
        return value

    return checked(kind, check)


def one_for_each(
    flag: str, values: Sequence[Value], num_edits: int, default: Value, edits: str = "edits (-i)"
) -> list[Value]:
    """The values of a repeated flag for so many edits, in their order: `default` for each where there are none.

    Raises InvalidInput for another number of them, as nobody could tell which edit each one is meant for."""
    if not values:
        return [default] * num_edits
    if len(values) != num_edits:
        raise InvalidInput(
            f"There are {num_edits} {edits}, but {len(values)} {flag}: give one for each, in the same order, or none."
        )
    return list(values)


def open_engine(args: argparse.Namespace) -> SliderEngine:
    """Load the model that the flags name. On stderr, warn of instructions that it was not trained for."""
    hush_libraries(bars=args.quiet)
    engine = load_engine(args)
    for instruction in args.instructions:
        advice = advise(instruction, engine.pipe.known_instructions)
        if not advice.is_known:
            nearest = ", ".join(repr(phrase) for phrase in advice.nearest)
            print(
                f"The model {args.model} was not trained for {instruction!r} and will do its best. "
                f"The nearest that it knows: {nearest}.",
                file=sys.stderr,
            )
    return engine


def load_engine(args: argparse.Namespace) -> SliderEngine:
    """The model that the flags name, in an engine as they describe it."""
    from ..engine import SliderEngine
    from ..presets import load_pipeline

    names = ("slider", "device", "dtype", "low_vram", "quantize")
    pipe = load_pipeline(args.model, **{name: getattr(args, name) for name in names})
    return SliderEngine(pipe, frame_folder=args.frame_folder, speed=args.speed, compiled=args.compile)


def hush_libraries(bars: bool) -> None:
    """Errors only, before anything is imported that warns: of torchvision and of torchao's compiled parts, which
    nothing here needs, and of torch's own registers. `bars`: no progress bars, either."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        if bars:
            library.disable_progress_bar()
