"""`kontext-slider edit`: one picture at one strength."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..edit import MAX_STRENGTH, check_strength
from ..errors import InvalidInput
from ..files import check_suffix, make_folder
from ..metadata import describe, pack_map, recipe
from ..picture_file import PICTURE_FORMATS, save_picture
from .options import add_edit_arguments, checked, number, open_engine

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..engine import EditSession
    from ..engine.sampling import OnStep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edit`."""
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the picture to edit")
    parser.add_argument(
        "-s",
        "--strength",
        type=checked(float, partial(check_strength, highest=MAX_STRENGTH)),
        default=1.0,
        help="from 0, untouched, to 1 (default)",
    )
    parser.add_argument("--allow-extrapolation", action="store_true", help=f"strengths up to {MAX_STRENGTH}")
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="a grey picture, stretched over the photograph: white gets the whole strength, black stays untouched",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write: .png, .jpg or .webp")
    parser.add_argument(
        "--working-size", action="store_true", help="write the model's own frame, not the photograph's full size"
    )
    parser.add_argument(
        "--quality",
        type=number(int, 1, 100),
        help="of .jpg and .webp, 1 to 100 (default: 95 for .jpg; .webp keeps every pixel)",
    )
    parser.add_argument(
        "--keep-profile", action="store_true", help="keep the photograph's own colour profile (default: sRGB)"
    )
    parser.add_argument(
        "--keep-location", action="store_true", help="keep where the photograph was taken (default: left out)"
    )
    add_edit_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Render and write, by default at the photograph's own size; strength 0 writes its own pixels."""
    _check(args)
    share = _read_mask(args.mask)
    make_folder(args.out.parent)
    engine = open_engine(args)
    settings = (args.seed, args.steps, args.guidance, args.size, args.allow_extrapolation)
    with engine.open(args.image, args.instruction, *settings) as session:
        with tqdm(total=session.steps, unit="step", disable=args.quiet) as bar:

            def count(step: int, total: int) -> None:
                bar.total = total
                bar.update(step - bar.n)

            picture = _picture(session, args, share, count)
        facts = recipe(session, args.model, args.slider, args.speed, args.quantize)
        if not args.working_size:
            facts |= session.full_size_facts(args.strength)
        if share is not None:
            facts["strength_map"] = pack_map(share)
        left_out = save_picture(
            picture,
            args.out,
            describe([args.strength], picture.size, args.image, facts),
            session.photo,
            args.keep_profile,
            args.keep_location,
            args.quality,
        )
    if not args.quiet:
        for sentence in filter(None, [left_out, facts.get("warning")]):
            print(sentence, file=sys.stderr)
        print(args.out)


def _read_mask(path: str | None) -> np.ndarray | None:
    if path is None:
        return None
    from ..strength_map import read_map

    return read_map(path)


def _picture(session: EditSession, args: argparse.Namespace, share: np.ndarray | None, on_step: OnStep) -> Image.Image:
    """What is written. `share`: of the strength, for every place, (H, W) in [0, 1]; None for the whole everywhere."""
    if share is None:
        frame = session.show(args.strength, on_step)
        return frame if args.working_size else session.picture(args.strength)
    return session.picture(args.strength * share, on_step)


def _check(args: argparse.Namespace) -> None:
    """InvalidInput, before anything is loaded, for what cannot be written or would destroy the source."""
    suffix = check_suffix(args.out, PICTURE_FORMATS)
    if args.quality is not None and suffix == "png":
        raise InvalidInput("--quality goes with .jpg and .webp: a .png keeps every pixel.")
    if args.strength > 1 and not args.allow_extrapolation:
        raise InvalidInput(f"A strength of {args.strength:g} is beyond the full edit: add --allow-extrapolation.")
    if args.mask and args.working_size:
        raise InvalidInput("--mask edits the photograph at its own size: leave --working-size out.")
    if os.path.isdir(args.out):
        raise InvalidInput(f"{args.out} is a folder: name a file in it.")
    if os.path.exists(args.out) and os.path.exists(args.image) and os.path.samefile(args.out, args.image):
        raise InvalidInput(f"{args.out} is the source itself and would be lost: choose another name for the result.")
