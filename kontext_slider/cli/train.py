"""`kontext-slider train`: train the pocket model, save it, measure it."""

from __future__ import annotations

import argparse
from pathlib import Path

from kontext_slider.cli.options import number
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.model_card import measure
from kontext_slider.evaluate.plots import check_matplotlib
from kontext_slider.evaluate.truth import find_photos
from kontext_slider.files import shipped
from kontext_slider.train.pocket import recipe

PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "slider_projector")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train`."""
    parser.add_argument("--run", dest="folder", type=Path, default=Path("runs/pocket"), help="checkpoints and drawings")
    choices = recipe.RECIPES
    parser.add_argument("--recipe", choices=choices, default="cpu", help="for two cores or for one GPU (default: cpu)")
    parser.add_argument("--start", type=Path, help="a pocket model's folder to go on from, codec and slider included")
    parser.add_argument("--out", type=Path, help="where the model goes (default: the folder 'model' in that of --run)")
    parser.add_argument("--photos", type=Path, default=shipped("assets/photos"), help="photographs to measure on")
    parser.add_argument("--scenes-per-edit", type=number(int, 1, 10**6), default=4, help="held-out scenes, per edit")
    parser.add_argument("--only", choices=("train", "measure"), help="one half of the work")


def run(args: argparse.Namespace) -> None:
    """Train what is not trained yet, save, measure. InvalidInput for what would fail hours later."""
    out = args.out or args.folder / "model"
    if args.only != "train":
        check_matplotlib()
        find_photos(args.photos)
    if args.only == "measure":
        check_files(out, ("model_index.json", f"training/{recipe.RUNS}"), "--out")
    elif args.start is not None:
        check_files(args.start, PARTS, "--start")
    if args.only != "measure":
        recipe.run(args.recipe, args.folder, out, args.start)
    if args.only != "train":
        measure(out, args.photos, args.scenes_per_edit, recipe.training_section(out))


def check_files(folder: Path, names: tuple[str, ...], flag: str) -> None:
    """InvalidInput for a folder that is no pocket model."""
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise InvalidInput(f"{folder} is no pocket model (no {missing[0]} in it). Name one that was trained: {flag}.")
