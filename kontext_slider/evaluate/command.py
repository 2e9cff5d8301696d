"""`kontext-slider evaluate`: a model's frames against the drawn truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kontext_slider.evaluate.truth import find_photos, score_truth, summary, write_report
from kontext_slider.presets import load_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("--model", default="pocket", help="pocket, kontext-dev, a model folder or a hub id")
    parser.add_argument("--scenes-per-edit", type=int, default=4, help="held-out scenes per edit (default: 4)")
    parser.add_argument("--photos", type=Path, help="a folder of photographs to measure on as well")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="the report's folder")


def run(args: argparse.Namespace) -> None:
    """Measure, write `truth.md` and `truth.jsonl`, print the means as JSON."""
    photos = find_photos(args.photos) if args.photos else []
    scores = score_truth(load_pipeline(args.model), args.scenes_per_edit, photos)
    photo_words = f" --photos {args.photos}" if args.photos else ""
    command = f"kontext-slider evaluate --model {args.model} --scenes-per-edit {args.scenes_per_edit}{photo_words}"
    write_report(scores, args.out, command)
    print(json.dumps(summary(scores)))
