"""`kontext-slider train`: train the pocket model, save it, measure it."""

from __future__ import annotations

import argparse
from pathlib import Path

from kontext_slider.cli.options import number
from kontext_slider.evaluate.model_card import measure
from kontext_slider.evaluate.plots import check_matplotlib
from kontext_slider.evaluate.truth import find_photos
from kontext_slider.files import shipped
from kontext_slider.train.pocket import recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train`."""
    recipe.add_arguments(parser)
    parser.add_argument("--photos", type=Path, default=shipped("assets/photos"), help="photographs to measure on")
    parser.add_argument("--scenes-per-edit", type=number(int, 1, 10**6), default=4, help="held-out scenes, per edit")
    parser.add_argument("--only", choices=("train", "measure"), help="one half of the work")


def run(args: argparse.Namespace) -> None:
    """Train what is not trained yet, save, measure. InvalidInput for what would fail hours later."""
    if args.only != "train":
        check_matplotlib()
        find_photos(args.photos)
    recipe.check_arguments(args)
    if args.only != "measure":
        recipe.run(args)
    if args.only != "train":
        measure(args.out, args.photos, args.scenes_per_edit, recipe.training_section(args.out))
