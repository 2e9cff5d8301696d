"""`kontext-slider train-slider`: the slider of any Kontext model, on a data set or on synthetic pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from kontext_slider.presets import load_base
from kontext_slider.train.config import PRESETS, RUN_FILE, SliderConfig, read_run, with_settings
from kontext_slider.train.slider import check_start, train_slider


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train-slider`."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        help="folder of Parquet files from the data stages; may be given several times (default: synthetic pairs, for "
        "pocket)",
    )
    parser.add_argument("--out", dest="folder", type=Path, required=True, help="the run; one that is there goes on")
    parser.add_argument("--preset", choices=PRESETS, help="settings to start from (default: pocket)")
    parser.add_argument("--cache", type=Path, help="encoded rows, to share between runs (default: in the run)")
    parser.add_argument(
        "settings", nargs="*", metavar="NAME=VALUE", help="other settings, such as steps=500 model=FOLDER"
    )


def run(args: argparse.Namespace) -> None:
    """Train to the end, or go on; the slider is in the run's folder `slider`."""
    config = chosen_config(args)
    check_start(config, args.folder, args.data)
    halved = config.precision == "bf16" and torch.cuda.is_available()
    pipe = load_base(config.model, torch.bfloat16 if halved else torch.float32)
    train_slider(pipe, config, args.folder, args.data, args.cache)


def chosen_config(args: argparse.Namespace) -> SliderConfig:
    """The preset with the settings; where neither is given and the run is there, the run's own."""
    if args.preset is None and not args.settings and (args.folder / RUN_FILE).exists():
        return read_run(args.folder)
    return with_settings(PRESETS[args.preset or "pocket"], args.settings)
