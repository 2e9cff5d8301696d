"""`kontext-slider evaluate`: a model against the ground truth, against other sliders, and on PIE-Bench."""

from __future__ import annotations

import argparse
import json
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from kontext_slider.cli.morphers import add_morpher_arguments, chosen_morphers
from kontext_slider.cli.options import add_model_arguments, checked, number
from kontext_slider.edit import check_seed
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines import BASELINES, Method, available, by_morpher, ours
from kontext_slider.evaluate.compare import CEILING, OURS, Setup, compare_all
from kontext_slider.evaluate.pie_bench import measure_pie_bench, read_pie_bench
from kontext_slider.evaluate.plots import check_matplotlib
from kontext_slider.evaluate.report import figures, pie_figures, write_pie_report, write_report, write_truth
from kontext_slider.evaluate.truth import find_photos, score_truth, summary
from kontext_slider.features import DEFAULT_RULERS, DISTANCES, find_distance
from kontext_slider.files import make_folder, write_json
from kontext_slider.metrics.networks import CLIP, ClipEmbedder
from kontext_slider.morph import OWN_MODELS
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from kontext_slider.variants import load_variant, variant_method


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    count = number(int, 1, 10**6)
    add_model_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="the report's folder")
    parser.add_argument("--json", type=Path, help="write all means as one JSON object")
    parser.add_argument("--seed", type=checked(int, check_seed), default=0, help="draws scenes and noise (default: 0)")
    parser.add_argument(
        "--distance", choices=DISTANCES, default=DEFAULT_RULERS[0], help="of smoothness (default: %(default)s)"
    )
    parser.add_argument("--clip", help=f"CLIP, a folder or hub id, for CLIP-dir and --distance clip; {CLIP}")
    truth = parser.add_argument_group("against the truth, edit by edit (without --edits and --pie-bench)")
    truth.add_argument("--scenes-per-edit", type=count, default=4, help="held-out scenes per edit (default: 4)")
    truth.add_argument("--photos", type=Path, help="a folder of photographs to measure on as well")
    compared = parser.add_argument_group("smoothness, calibration, baselines and ablations (with --edits)")
    compared.add_argument("--edits", type=count, help="number of held-out edits per seed")
    compared.add_argument("--seeds", type=count, default=1, help="so many seeds from --seed on, pooled (default: 1)")
    compared.add_argument("--baselines", nargs="*", choices=list(BASELINES), help="default: all, and none on PIE-Bench")
    compared.add_argument(  # the former name
        "--rivals",
        dest="baselines",
        nargs="*",
        choices=list(BASELINES),
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    compared.add_argument(
        "--ablation", action="append", default=[], metavar="NAME=FOLDER", help="a trained slider of any kind"
    )
    compared.add_argument(
        "--concept-sliders", type=Path, metavar="FOLDER", help="from train-concept, for the baseline concept-slider"
    )
    compared.add_argument("--jobs", type=count, default=1, help="processes that share the edits (default: 1)")
    compared.add_argument("--strips", type=int, default=4, help="edits to show side by side (default: 4)")
    add_morpher_arguments(parser.add_argument_group("baselines between source and full edit, with models of their own"))
    pie = parser.add_argument_group("on PIE-Bench, the paper's 540 edits")
    pie.add_argument("--pie-bench", type=Path, help="its folder, in its original layout or the hub's (parquet)")


def run(args: argparse.Namespace) -> None:
    """Measure, write the report, print the means as JSON. Raises InvalidInput or DiskError where there is no room for
    the results, before hours are spent."""
    make_folder(args.out)
    if args.json:
        make_folder(args.json.parent)
        if args.json.is_dir():
            raise InvalidInput(f"--json is a file, and {args.json} is a folder. Give a name in it.")
    if args.pie_bench is not None:
        means = report_pie_bench(args)
    else:
        means = report_truth(args) if args.edits is None else report_comparison(args)
    if args.json:
        write_json(args.json, means)
    print(json.dumps(means))


def report_truth(args: argparse.Namespace) -> dict[str, Any]:
    """`truth.md` and `truth.jsonl`; returns mean decibels."""
    photos = find_photos(args.photos) if args.photos else []
    scores = score_truth(load(args), args.scenes_per_edit, photos, args.seed)
    write_truth(scores, args.out, command_line(args))
    return summary(scores)


def report_comparison(args: argparse.Namespace) -> dict[str, Any]:
    """`report.md`, `edits.csv` and plots; returns the means."""
    check_matplotlib()
    seeds = range(args.seed, args.seed + args.seeds)
    comparison = compare_all(partial(make_setup, args), args.edits, seeds, args.jobs, args.strips)
    write_report(comparison, args.out, command_line(args))
    return figures(comparison)


def report_pie_bench(args: argparse.Namespace) -> dict[str, Any]:
    """`pie-bench.md`, `pie-bench.csv` and plots; returns the means."""
    check_matplotlib()
    cases, pipe = read_pie_bench(args.pie_bench), load(args)
    embedder = ClipEmbedder(args.clip, pipe._execution_device) if args.clip else None
    methods = {OURS: ours, **available(pipe, args.baselines or (), args.concept_sliders), **morpher_methods(args, pipe)}
    distance = find_distance(args.distance, pipe, args.clip)
    results = measure_pie_bench(pipe, cases, methods, distance, embedder, args.seed)
    write_pie_report(results, args.out, command_line(args), args.distance)
    return pie_figures(results, args.distance)


def make_setup(args: argparse.Namespace) -> Setup:
    """The model, the methods and the distance that the flags name. Every process of a run makes its own."""
    folders = parse_ablations(args.ablation)
    ablations = {name: variant_method(load_variant(folder)) for name, folder in folders.items()}
    pipe = load(args)
    baselines = available(pipe, args.baselines, args.concept_sliders) | morpher_methods(args, pipe)
    return Setup(pipe, find_distance(args.distance, pipe, args.clip), args.distance, baselines, ablations)


def morpher_methods(args: argparse.Namespace, pipe: KontextSliderPipeline) -> dict[str, Method]:
    """The morphers with models of their own that the flags name, as methods, beside the pipeline under test."""
    chosen = chosen_morphers(args, pipe._execution_device, pipe.transformer.dtype)
    return {name: by_morpher(morpher) for name, morpher in chosen.items()}


def load(args: argparse.Namespace) -> KontextSliderPipeline:
    """The model under test."""
    return load_pipeline(args.model, slider=args.slider, device=args.device, dtype=args.dtype)


def parse_ablations(words: list[str]) -> dict[str, Path]:
    """ "NAME=FOLDER" -> {NAME: FOLDER}. Raises InvalidInput for other words and for names that are taken."""
    folders: dict[str, Path] = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not name or not folder:
            raise InvalidInput(f"--ablation takes NAME=FOLDER, not '{word}'.")
        if name in (*folders, OURS, CEILING, *OWN_MODELS, *BASELINES):
            raise InvalidInput(f"The name '{name}' is taken. Give every --ablation a name of its own.")
        folders[name] = Path(folder)
    return folders


def command_line(args: argparse.Namespace) -> str:
    """The command with every flag spelled out, so that it means the same when defaults change."""
    words = ["kontext-slider", "evaluate"]
    for name, value in vars(args).items():
        flag = "--" + name.replace("_", "-")
        if name == "ablation":
            words += [word for pair in value for word in (flag, pair)]
        elif value is True:
            words.append(flag)
        elif name not in ("command", "module") and value is not None and value is not False:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
