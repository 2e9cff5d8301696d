"""The command `kontext-slider`: a table of sub-commands, and one place where errors become sentences.

`python -m kontext_slider` and `python -m kontext_slider.cli` are the same command.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from .. import __version__
from ..errors import DiskError, InvalidInput, KontextSliderError, UnreadableImage
from ..files import disk_error_in, write_error
from ..threads import limit_spinning

PROGRAM = "kontext-slider"
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Command:
    """A sub-command. Its module has `add_arguments(parser)` and `run(args)`, which returns an exit status or None."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("app", "open the app", "kontext_slider.ui.launch"),
    Command("edit", "one picture at one strength", "kontext_slider.cli.edit"),
    Command("sweep", "many pictures, each from untouched to fully edited", "kontext_slider.cli.sweep"),
    Command("evaluate", "a model's frames against the ground truth", "kontext_slider.cli.evaluate"),
    Command("train", "train the pocket model", "kontext_slider.cli.train"),
    Command("data", "make training data for a slider", "kontext_slider.cli.data"),
    Command("train-slider", "train a slider for any Kontext model on prepared data", "kontext_slider.cli.train_slider"),
    Command("train-concept", "train concept sliders, to compare with", "kontext_slider.cli.train_concept"),
    Command("info", "how an exported file was made", "kontext_slider.cli.info"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. 0: done; 1: something failed; 2: wrong use; 130: stopped by Ctrl-C."""
    limit_spinning()
    words = list(sys.argv[1:] if argv is None else argv)
    _print_any_name()
    try:
        args = build_parser(words[:1]).parse_args(words)
        return import_module(args.module).run(args) or 0
    except KontextSliderError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        wrong_use = isinstance(error, InvalidInput) and not isinstance(error, UnreadableImage | DiskError)
        return WRONG_USE if wrong_use else FAILED
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: stopped. Finished files are whole: the same command goes on from them.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # of a library that writes or reads a file itself
        told = disk_error_in(error)
        if told is None:
            raise
        print(f"{PROGRAM}: {write_error(f'{told.filename or args.command} failed', told)}", file=sys.stderr)
        return FAILED


def _print_any_name() -> None:
    """A file name that the terminal has no letters for is printed with escapes, in place of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def build_parser(chosen: Sequence[str]) -> argparse.ArgumentParser:
    """All sub-commands by name; only the module of the chosen one is imported, since gradio alone takes seconds."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Edit pictures in words, with a strength from 0 to 1.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help.capitalize() + ".")
        subparser.set_defaults(module=command.module)
        if command.name in chosen:
            import_module(command.module).add_arguments(subparser)
    return parser
