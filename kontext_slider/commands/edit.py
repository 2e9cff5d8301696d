"""`kontext-slider edit`: one picture at one strength."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from ..batch import make_folder
from ..defaults import MAX_STRENGTH
from ..errors import InvalidInput
from ..export import check_suffix, describe
from ..picture_file import PICTURE_FORMATS, save_picture
from .options import add_edit_arguments, number, open_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edit`."""
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the picture to edit")
    parser.add_argument(
        "-s", "--strength", type=number(float, 0.0, MAX_STRENGTH), default=1.0, help="from 0, untouched, to 1 (default)"
    )
    parser.add_argument("--allow-extrapolation", action="store_true", help=f"strengths up to {MAX_STRENGTH}")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write: .png, .jpg or .webp")
    add_edit_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Render and write; strength 0 writes the untouched source at the working size."""
    check_suffix(args.out, PICTURE_FORMATS)
    if args.strength > 1 and not args.allow_extrapolation:
        raise InvalidInput(f"A strength of {args.strength:g} is beyond the full edit: add --allow-extrapolation.")
    if args.out.exists() and args.image.exists() and args.out.samefile(args.image):
        raise InvalidInput(f"{args.out} is the source itself and would be lost: choose another name for the result.")
    make_folder(args.out.parent)
    engine = open_engine(args)
    settings = (args.seed, args.steps, args.guidance, args.size, args.allow_extrapolation)
    with engine.open(args.image, args.instruction, *settings) as session:
        with tqdm(total=session.steps, unit="step", disable=args.quiet) as bar:
            picture = session.show(args.strength, lambda step, _: bar.update(step - bar.n))
        origin = describe(
            [(args.strength, picture)],
            instruction=session.instruction,
            seed=session.seed,
            model=args.model,
            slider=args.slider,
            source=args.image,
            steps=session.steps,
            guidance=session.guidance,
        )
    save_picture(picture, args.out, origin)
    if not args.quiet:
        print(args.out)
