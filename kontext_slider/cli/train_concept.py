"""`kontext-slider train-concept`: a LoRA for each instruction, the baseline `concept-slider` of `evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kontext_slider.cli.options import add_model_arguments, checked, number
from kontext_slider.edit import check_instruction, check_seed
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.truth import find_photos
from kontext_slider.images import read_image, working_image
from kontext_slider.presets import load_pipeline
from kontext_slider.train.concept_slider import ConceptConfig, train_concept_sliders
from kontext_slider.train.config import parse, read_settings
from kontext_slider.world.cases import REPORTING_SEED, instructions_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train-concept`."""
    add_model_arguments(parser, has_slider=False)
    parser.add_argument("--out", type=Path, required=True, help="a folder for all sliders; those that are there stay")
    parser.add_argument(
        "-i", "--instruction", dest="instructions", action="append", default=[], type=checked(str, check_instruction),
        help="may be given again",
    )  # fmt: skip
    parser.add_argument("--edits", type=number(int, 1, 10**6), help="the instructions of `evaluate --edits N --seed S`")
    parser.add_argument("--seed", type=checked(int, check_seed), default=REPORTING_SEED, help="of those edits")
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--images", type=Path, help="a folder of pictures to train on")
    sources.add_argument("--drawn-scenes", action="store_true", help="train on synthetic scenes, for pocket")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="such as steps=500 opposite='make it day'")


def run(args: argparse.Namespace) -> None:
    """Train the sliders that the folder does not have yet. Raises InvalidInput without an instruction."""
    config = parse(ConceptConfig, read_settings(args.settings))
    instructions = [*args.instructions, *instructions_of(args.edits or 0, args.seed)]
    if not instructions:
        raise InvalidInput("Nothing to train: give an instruction (-i) or a number of edits (--edits).")
    pipe = load_pipeline(args.model, device=args.device, dtype=args.dtype)
    photos = find_photos(args.images) if args.images else []
    sources = [working_image(read_image(photo), pipe.defaults.size, 2 * pipe.vae_scale_factor) for photo in photos]
    train_concept_sliders(pipe, instructions, config, args.out, sources)
