"""One command from nothing to a pocket model: draw, fit the codec, train the base, train the slider, measure.

Kill it at any time and start it again: it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from kontext_slider.checkpoint import forget_local_paths
from kontext_slider.errors import InvalidInput, KontextSliderError
from kontext_slider.evaluate.sheet import photo_sheet
from kontext_slider.evaluate.sizes import score_sizes
from kontext_slider.evaluate.truth import find_photos, score_truth, working_edits, write_report
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.shipped import shipped
from kontext_slider.train.pocket.base import BaseRun, train_base
from kontext_slider.train.pocket.batches import ShardSize
from kontext_slider.train.pocket.card import write_card
from kontext_slider.train.pocket.folder import allow_start
from kontext_slider.train.pocket.model import PocketSizes
from kontext_slider.train.pocket.slider import SliderRun, train_slider
from kontext_slider.world.edits import family, known_instructions

EDIT_DEFAULTS = {
    "size": 256,
    "steps": 2,
    "guidance": 1.0,
    "max_sequence_length": PocketSizes().text_length,
    "anchor_source": True,
}
RUNS = "runs.json"
STAGES = ("base", "slider")


def _larger(sizes: tuple[ShardSize, ...], times: int) -> tuple[ShardSize, ...]:
    return tuple(replace(size, sources=times * size.sources, batch=times * size.batch) for size in sizes)


# "gpu" sees seventy times as many pictures as "cpu" does in its hours; nobody has run it from this repository yet.
RECIPES = {
    "cpu": (BaseRun(), SliderRun()),
    "gpu": (
        BaseRun(device="cuda", sizes=_larger(BaseRun().sizes, 8), steps=36_000),
        SliderRun(device="cuda", sizes=_larger(SliderRun().sizes, 8), steps=12_000),
    ),
}


def build_pipeline(parts: dict) -> KontextSliderPipeline:
    """The trained parts as a pipeline that carries its own settings and the instructions it knows."""
    return KontextSliderPipeline(**parts, edit_defaults=EDIT_DEFAULTS, known_instructions=known_instructions())


def save(pipe: KontextSliderPipeline, base: BaseRun, slider: SliderRun, run: Path, out: Path) -> None:
    """Write the pipeline in half precision to `out`, with the settings and logs of its training."""
    pipe.to("cpu", torch.float16)
    pipe.save_pretrained(out)
    for stage in STAGES:
        (out / "training").mkdir(exist_ok=True)
        shutil.copy(run / stage / "log.jsonl", out / "training" / f"{stage}.jsonl")
    settings = json.dumps({"base": asdict(base), "slider": asdict(slider)}, indent=2, default=str)
    (out / "training" / RUNS).write_text(settings + "\n", encoding="utf-8")


def measure(out: Path, photos: Path, scenes_per_edit: int) -> None:
    """Score the saved weights, as a user loads them; offer what works; write report, contact sheet and model card.

    What the model offers is written last. Raises KontextSliderError, and leaves that as it was, where nothing works."""
    pipe = KontextSliderPipeline.from_pretrained(out)
    scores = score_truth(pipe, scenes_per_edit, find_photos(photos))
    command = f"kontext-slider train --only measure --out MODEL --scenes-per-edit {scenes_per_edit}"
    write_report(scores, out / "measured", command)
    working = working_edits(scores)
    offered = {name: words for name, words in known_instructions().items() if family(name) in working}
    if not offered:
        raise KontextSliderError(
            f"No edit of the model in {out} comes nearer to the truth than the untouched picture by 3 dB, so there is "
            "nothing to offer. Train it for longer."
        )
    pipe.register_to_config(known_instructions=offered)
    photo_sheet(pipe, find_photos(photos)).save(out / "measured" / "photos.jpg", quality=85)
    runs = json.loads((out / "training" / RUNS).read_text(encoding="utf-8"))
    write_card(out, runs, scores, score_sizes(pipe), offered)
    pipe.save_config(out)
    forget_local_paths([out / "model_index.json"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train`."""
    parser.add_argument("--run", dest="folder", type=Path, default=Path("runs/pocket"), help="checkpoints and drawings")
    parser.add_argument("--recipe", choices=RECIPES, default="cpu", help="for two cores or for one GPU (default: cpu)")
    parser.add_argument(
        "--start", type=Path, help="a pocket model's folder to go on from, its codec and slider included"
    )
    parser.add_argument("--out", type=Path, help="where the model goes (default: the folder 'model' in that of --run)")
    parser.add_argument("--photos", type=Path, default=shipped("assets/photos"), help="photographs to measure on")
    parser.add_argument("--scenes-per-edit", type=int, default=4, help="held-out scenes to measure on, per edit")
    parser.add_argument("--only", choices=("train", "measure"), help="one half of the work")


def check_arguments(args: argparse.Namespace) -> None:
    """Complete the flags. InvalidInput for folders that are not there and numbers that measure nothing."""
    if args.out is None:
        args.out = args.folder / "model"
    if args.scenes_per_edit < 1:
        raise InvalidInput(f"--scenes-per-edit is a number of at least 1, not {args.scenes_per_edit}.")
    if args.only != "train":
        find_photos(args.photos)
    if args.only == "measure":
        _check_files(args.out, ("model_index.json", f"training/{RUNS}"), "--out")
    elif args.start is not None:
        parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "slider_projector")
        _check_files(args.start, parts, "--start")


def _check_files(folder: Path, names: Sequence[str], flag: str) -> None:
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise InvalidInput(f"{folder} is no pocket model (no {missing[0]} in it). Name one that was trained: {flag}.")


def run(args: argparse.Namespace) -> None:
    """Train what is not trained yet, save, measure. InvalidInput for what would fail hours later."""
    check_arguments(args)
    torch.set_flush_denormal(True)
    if args.only != "measure":
        base, slider = RECIPES[args.recipe]
        base, slider = replace(base, start=args.start), replace(slider, start=args.start)
        pipe = build_pipeline(train_base(base, args.folder))
        train_slider(pipe, slider, args.folder)
        save(pipe, base, slider, args.folder, args.out)
        for stage in STAGES if args.start else ():
            allow_start(args.folder / stage, args.out)
    if args.only != "train":
        measure(args.out, args.photos, args.scenes_per_edit)
