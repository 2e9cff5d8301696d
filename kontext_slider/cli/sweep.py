"""`kontext-slider sweep`: many pictures, each from untouched to fully edited."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from ..batch import MANIFEST, MAX_WIDTH, SweepOptions, find_images, list_result, listed_results, plan_sweeps, run_sweeps
from ..edit import check_num_frames
from ..engine.response import NUM_MEASURED
from ..errors import DiskError, InvalidInput
from ..export import ANIMATIONS, FORMATS, FPS, FPS_RANGE
from ..files import make_folder
from .options import add_edit_arguments, checked, number, one_for_each, open_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `sweep`."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="pictures, folders of pictures, or patterns")
    parser.add_argument(
        "-n",
        dest="num_strengths",
        type=checked(int, check_num_frames),
        default=11,
        help="strengths from 0 to 1 (default: 11)",
    )
    parser.add_argument(
        "--even",
        action="store_true",
        help=f"strengths at even steps of the picture's change: {NUM_MEASURED} frames more measure that first",
    )
    parser.add_argument("--format", choices=FORMATS, default="gif", help="default: gif; png is a strip")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--fps",
        type=number(float, *FPS_RANGE),
        default=FPS,
        help="gif, webp, mp4: frames per second (default: %(default)g)",
    )
    parser.add_argument(
        "--full-size", action="store_true", help="for png and zip: the photograph's own size, not the model's"
    )
    parser.add_argument(
        "--width",
        type=number(int, 16, 16_383),
        help=f"gif, webp, mp4: at most so many pixels wide and never more than the photograph (default: {MAX_WIDTH})",
    )
    add_edit_arguments(parser, "of several edits (-i), of each but the last, which is swept (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Make what is missing. Exit status 1 when a picture could not be used, else 0."""
    _check_format(args)
    options = _options(args)
    make_folder(args.out)
    sources, problems = find_images(args.images, listed_results(args.out))
    plan = plan_sweeps(sources, options, args.out)
    try:
        for task in plan.done:
            list_result(task)
    except DiskError:
        raise
    except InvalidInput as error:  # all have one manifest
        problems.append(str(error))
    num_written = 0
    if plan.pending:
        engine = open_engine(args)
        with tqdm(total=len(plan.pending) * options.num_frames, unit="frame", disable=args.quiet) as bar:
            num_written, failures = run_sweeps(
                engine, plan.pending, options, lambda task: bar.set_description(task.source.name), bar.update
            )
        problems += failures
    problems = plan.problems + problems
    for problem in problems:
        print(problem, file=sys.stderr)
    if not args.quiet:
        done = f"{num_written} written, {len(plan.done)} there already, {len(problems)} failed"
        print(f"{done}: {args.out / MANIFEST}")
    return 1 if problems else 0


def _options(args: argparse.Namespace) -> SweepOptions:
    """All flags as options. Of several edits, the last is swept and the others have a fixed strength."""
    *earlier, instruction = args.instructions
    if not earlier and args.strengths:
        raise InvalidInput("A sweep has all strengths: -s is for the edits before the last, and there is one edit.")
    strengths = one_for_each("-s", args.strengths, len(earlier), 1.0, "edits (-i) before the last, which is swept")
    if max(strengths, default=0) > 1:
        raise InvalidInput(f"The edits before a sweep have strengths up to 1, not {max(strengths):g}.")
    edits = {"instruction": instruction, "earlier_edits": tuple(zip(earlier, strengths, strict=True))}
    names = [field.name for field in fields(SweepOptions) if field.name not in edits]
    return SweepOptions(**edits, **{name: getattr(args, name) for name in names})


def _check_format(args: argparse.Namespace) -> None:
    """A flag that the format cannot obey is an error rather than ignored."""
    for flag, is_given, formats in (
        ("fps", args.fps != FPS, ANIMATIONS),
        ("width", args.width, ANIMATIONS),
        ("full-size", args.full_size, ("png", "zip")),
    ):
        if is_given and args.format not in formats:
            raise InvalidInput(f"--{flag} goes with --format {' or '.join(formats)}, not with {args.format}.")
