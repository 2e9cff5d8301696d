"""`kontext-slider evaluate`: a model's frames against the drawn truth, and its slider against other sliders."""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.compare import Measures, compare, draw_cases, means, table
from kontext_slider.evaluate.distance import DISTANCES, find_distance
from kontext_slider.evaluate.rivals import RIVALS, ours
from kontext_slider.evaluate.truth import HELD_OUT_SEED, find_photos, score_truth, summary, write_report
from kontext_slider.presets import load_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("--model", default="pocket", help="pocket, kontext-dev, a model folder or a hub id")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="the report's folder")
    truth = parser.add_argument_group("against the truth, edit by edit (without --edits)")
    truth.add_argument("--scenes-per-edit", type=int, default=4, help="held-out scenes per edit (default: 4)")
    truth.add_argument("--photos", type=Path, help="a folder of photographs to measure on as well")
    rivals = parser.add_argument_group("smoothness, calibration and rivals (with --edits)")
    rivals.add_argument("--edits", type=int, help="number of held-out edits")
    rivals.add_argument("--seed", type=int, default=0, help="draws scenes and noise (default: 0)")
    rivals.add_argument("--rivals", nargs="*", default=list(RIVALS), choices=list(RIVALS), help="default: all")
    rivals.add_argument("--distance", default="ssim", choices=list(DISTANCES), help="behind the smoothness measures")
    rivals.add_argument("--json", type=Path, help="write all means as one JSON object")


def run(args: argparse.Namespace) -> None:
    """Measure, write the report, print the means as JSON."""
    if args.edits is None:
        figures = report_truth(args)
    elif args.edits < 1:
        raise InvalidInput(f"--edits is a number of at least 1, not {args.edits}.")
    else:
        figures = report_rivals(args)
    print(json.dumps(figures))


def report_truth(args: argparse.Namespace) -> dict:
    """`truth.md` and `truth.jsonl`; returns mean decibels."""
    photos = find_photos(args.photos) if args.photos else []
    scores = score_truth(load_pipeline(args.model), args.scenes_per_edit, photos)
    photo_words = f" --photos {args.photos}" if args.photos else ""
    command = f"kontext-slider evaluate --model {args.model} --scenes-per-edit {args.scenes_per_edit}{photo_words}"
    write_report(scores, args.out, command)
    return summary(scores)


def report_rivals(args: argparse.Namespace) -> dict:
    """`rivals.md`, `rivals.csv` and, where asked for, the means as a JSON file; returns the means."""
    pipe = load_pipeline(args.model)
    methods = {"ours": ours, **{name: RIVALS[name] for name in args.rivals}}
    cases = draw_cases(args.edits, pipe.defaults.size, HELD_OUT_SEED + args.seed)
    results = compare(pipe, cases, methods, find_distance(args.distance), args.seed)
    command = (
        f"kontext-slider evaluate --model {args.model} --edits {args.edits} --seed {args.seed} "
        f"--distance {args.distance} --rivals {' '.join(args.rivals)}"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rivals.md").write_text(f"# Sliders compared\n\n`{command}`\n\n{table(results)}\n", encoding="utf-8")
    write_rows(args.out / "rivals.csv", [case.edit for case in cases], results)
    figures = means(results.pop("ours")) | {"rivals": {name: means(rows) for name, rows in results.items()}}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def write_rows(path: Path, edits: list[str], results: dict[str, list[Measures]]) -> None:
    """Every edit's measures by every method, as CSV."""
    rows = [
        {"method": method, "edit": edit, **asdict(row)}
        for method, measures in results.items()
        for edit, row in zip(edits, measures, strict=True)
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
