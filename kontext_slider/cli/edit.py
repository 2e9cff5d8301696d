"""`kontext-slider edit`: one picture at one strength, or after several edits."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..edit import MAX_STRENGTH
from ..errors import InvalidInput
from ..files import check_suffix, make_folder
from ..metadata import describe, recipe
from ..picture_file import PICTURE_FORMATS, save_picture
from .options import add_edit_arguments, number, one_for_each, open_engine

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..engine import EditSession
    from ..engine.sampling import OnStep

NO_MASK = "none"


@dataclass(frozen=True)
class Edit:
    """One edit of those that are done in turn. mask: a file, or NO_MASK."""

    instruction: str
    strength: float
    mask: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edit`."""
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the picture to edit")
    parser.add_argument("--allow-extrapolation", action="store_true", help=f"strengths up to {MAX_STRENGTH}")
    parser.add_argument(
        "--mask",
        dest="masks",
        action="append",
        default=[],
        metavar="FILE",
        help="a grey picture, stretched over the photograph: white gets the whole strength, black stays untouched; "
        'of several edits one for each, "none" for the whole photograph',
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
    add_edit_arguments(parser, "from 0, untouched, to 1 (default); of several edits one for each, in their order")


def run(args: argparse.Namespace) -> None:
    """Render and write, by default at the photograph's own size; strength 0 writes its own pixels."""
    *earlier, last = _edits(args)
    shares = [_read_mask(edit.mask) for edit in (*earlier, last)]
    make_folder(args.out.parent)
    engine = open_engine(args)
    names = ("seed", "steps", "guidance", "size", "allow_extrapolation")
    settings = {name: getattr(args, name) for name in names}
    with tqdm(unit="step", disable=args.quiet) as bar:

        def count(step: int, total: int) -> None:
            bar.total = total
            bar.update(step - bar.n)

        before = [(edit.instruction, _strength(edit, share)) for edit, share in zip(earlier, shares[:-1], strict=True)]
        session = engine.open_chain(args.image, before, last.instruction, count, **settings)
        picture = _picture(session, last, shares[-1], args.working_size, count)
    with session:
        facts = recipe(session, args.model, args.slider, args.speed, args.quantize, shares[-1])
        if not args.working_size:
            facts |= session.full_size_facts(last.strength)
        left_out = save_picture(
            picture,
            args.out,
            describe([last.strength], picture.size, args.image, facts),
            session.photo,
            args.keep_profile,
            args.keep_location,
            args.quality,
        )
    if not args.quiet:
        warnings = [edit.get("warning") for edit in (*facts.get("earlier_edits", []), facts)]
        for sentence in filter(None, [left_out, *dict.fromkeys(warnings)]):
            print(sentence, file=sys.stderr)
        print(args.out)


def _edits(args: argparse.Namespace) -> list[Edit]:
    """What is to be done, in its order. InvalidInput, before anything is loaded, for what cannot be."""
    _check_files(args)
    num_edits = len(args.instructions)
    strengths = one_for_each("-s", args.strengths, num_edits, 1.0)
    masks = one_for_each("--mask", args.masks, num_edits, NO_MASK)
    if max(strengths) > 1 and not args.allow_extrapolation:
        raise InvalidInput(f"A strength of {max(strengths):g} is beyond the full edit: add --allow-extrapolation.")
    return [Edit(*values) for values in zip(args.instructions, strengths, masks, strict=True)]


def _read_mask(mask: str) -> np.ndarray | None:
    if mask == NO_MASK:
        return None
    from ..strength_map import read_map

    return read_map(mask)


def _strength(edit: Edit, share: np.ndarray | None) -> float | np.ndarray:
    """One number, or a strength map. `share`: of the strength, (H, W) in [0, 1]; None for the whole everywhere."""
    return edit.strength if share is None else edit.strength * share


def _picture(
    session: EditSession, edit: Edit, share: np.ndarray | None, is_working_size: bool, on_step: OnStep
) -> Image.Image:
    """What is written."""
    if is_working_size:
        return session.render(edit.strength, on_step)
    return session.picture(_strength(edit, share), on_step)


def _check_files(args: argparse.Namespace) -> None:
    """InvalidInput for what cannot be written or would destroy the source."""
    suffix = check_suffix(args.out, PICTURE_FORMATS)
    if args.quality is not None and suffix == "png":
        raise InvalidInput("--quality goes with .jpg and .webp: a .png keeps every pixel.")
    if args.masks and args.working_size:
        raise InvalidInput("--mask edits the photograph at its own size: leave --working-size out.")
    if os.path.isdir(args.out):
        raise InvalidInput(f"{args.out} is a folder: name a file in it.")
    if os.path.exists(args.out) and os.path.exists(args.image) and os.path.samefile(args.out, args.image):
        raise InvalidInput(f"{args.out} is the source itself and would be lost: choose another name for the result.")
