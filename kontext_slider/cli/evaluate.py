"""`kontext-slider evaluate`: a model against the ground truth, against other sliders, and on PIE-Bench."""

from __future__ import annotations

import argparse
import json
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from kontext_slider.cli.evaluate_setup import (
    check_concept_sliders,
    described_methods,
    load,
    make_pie_setup,
    make_setup,
)
from kontext_slider.cli.morphers import add_morpher_arguments
from kontext_slider.cli.options import add_model_arguments, check_share, checked, number, share_of
from kontext_slider.edit import check_seed
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines import BASELINES, CONCEPT_SLIDER
from kontext_slider.evaluate.compare_run import CompareRun, compare_all
from kontext_slider.evaluate.pie_report import pie_figures, write_pie_report
from kontext_slider.evaluate.pie_run import PieRun, list_cases, measure_pie_bench, measured_edits
from kontext_slider.evaluate.plots import check_matplotlib
from kontext_slider.evaluate.report import figures, write_report, write_truth
from kontext_slider.evaluate.truth import find_photos, score_truth, summary
from kontext_slider.features import DEFAULT_RULERS, DISTANCES
from kontext_slider.files import make_folder, write_json
from kontext_slider.metrics.networks import CLIP, check_packages
from kontext_slider.morph import OWN_MODELS
from kontext_slider.world.cases import CHOOSING_SEEDS, REPORTING_SEED, instructions_of

TRUTH, COMPARISON, PIE = "without --edits and --pie-bench", "with --edits", "with --pie-bench"  # the three modes
USED = {  # flags that not every mode uses -> those that do
    "scenes_per_edit": (TRUTH,),
    "photos": (TRUTH,),
    "seeds": (COMPARISON,),
    "strips": (COMPARISON,),
    "edits": (COMPARISON,),
    "pie_bench": (PIE,),
    "share": (PIE,),
    **dict.fromkeys(
        (
            "ablation",
            "jobs",
            "baselines",
            "distance",
            "clip",
            "concept_sliders",
            "captions",
            "offload",
            *(name.replace("-", "_") for name in OWN_MODELS),
        ),
        (COMPARISON, PIE),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    count = number(int, 1, 10**6)
    add_model_arguments(parser)
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="the report's folder")
    parser.add_argument("--json", type=Path, help="write all means as one JSON object")
    parser.add_argument(
        "--seed",
        type=checked(int, check_seed),
        default=REPORTING_SEED,
        help="draws scenes and noise; those below %(default)s have chosen what a model offers (default: %(default)s)",
    )
    parser.add_argument(
        "--distance",
        nargs="+",
        choices=DISTANCES,
        default=list(DEFAULT_RULERS),
        metavar="NAME",
        help=f"rulers of smoothness, side by side: {', '.join(DISTANCES)} (default: {' '.join(DEFAULT_RULERS)})",
    )
    parser.add_argument("--clip", help=f"CLIP, a folder or hub id, for CLIP-dir and --distance clip; {CLIP}")
    truth = parser.add_argument_group("against the ground truth, edit by edit (without --edits and --pie-bench)")
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
        "--ablation",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a trained slider of any kind; the same NAME again for another training run of it",
    )
    compared.add_argument(
        "--concept-sliders", type=Path, metavar="FOLDER", help="from train-concept, for the baseline concept-slider"
    )
    compared.add_argument("--jobs", type=count, default=1, help="processes that share the edits (default: 1)")
    compared.add_argument("--strips", type=int, default=4, help="edits to show side by side (default: 4)")
    add_morpher_arguments(parser.add_argument_group("baselines between source and full edit, with models of their own"))
    pie = parser.add_argument_group("on PIE-Bench, the paper's 540 edits")
    pie.add_argument("--pie-bench", type=Path, help="its folder, in its original layout or the hub's (parquet)")
    pie.add_argument(
        "--share",
        type=checked(str, check_share),
        metavar="K/N",
        help="measure each N-th edit from K on, as one of N machines; the report comes from a run without it",
    )


def run(args: argparse.Namespace) -> None:
    """Measure, write the report, print the means as JSON. Raises InvalidInput or DiskError for flags that would not be
    used, where a package is missing and where there is no room for the results, before hours are spent."""
    refuse_unused(args)
    check_packages(args.distance)
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
    """Measure what is not measured yet. Writes `report.md`, `edits.csv` and plots, and returns the means."""
    check_matplotlib()
    seeds = range(args.seed, args.seed + args.seeds)
    if args.seed in CHOOSING_SEEDS and seeds[-1] not in CHOOSING_SEEDS:
        raise InvalidInput(
            f"Seeds {seeds[0]} to {seeds[-1]} are for choosing and for reporting. Begin at {REPORTING_SEED}, or end "
            f"below it."
        )
    check_concept_sliders(args, (words for seed in seeds for words in instructions_of(args.edits, seed)))
    facts = {"methods": described_methods(args, tuple(BASELINES)), "rulers": args.distance, "clip": args.clip}
    run = CompareRun(args.out, args.edits, seeds, args.strips, facts)
    comparison = compare_all(run, partial(make_setup, args), args.jobs)
    write_report(comparison, args.out, command_line(args))
    return figures(comparison)


def report_pie_bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not measured yet. Writes `pie-bench.md`, `pie-bench.csv` and plots, and returns the means; with
    --share it returns how much is measured in all."""
    check_matplotlib()
    facts = {"rulers": args.distance, "clip": args.clip}
    run = PieRun(args.out / "pie-bench", args.pie_bench, described_methods(args), args.seed, facts)
    if args.concept_sliders:
        check_concept_sliders(args, (case["instruction"] for case in list_cases(args.pie_bench)))
    share = share_of(args.share) if args.share else (0, 1)
    measure_pie_bench(run, partial(make_pie_setup, args), share, args.jobs)
    if args.share:
        return {"share": args.share, "num_measured": len(run.results())}
    edits = measured_edits(run)
    write_pie_report(edits, args.out, command_line(args))
    return pie_figures(edits)


def mode_of(args: argparse.Namespace) -> str:
    """What is measured: TRUTH, COMPARISON or PIE. InvalidInput where the flags name two."""
    if args.pie_bench is not None and args.edits is not None:
        raise InvalidInput("--edits draws synthetic scenes and --pie-bench reads real pictures. Give one of them.")
    return PIE if args.pie_bench is not None else TRUTH if args.edits is None else COMPARISON


def refuse_unused(args: argparse.Namespace) -> None:
    """Raise InvalidInput for a flag that would have no effect, rather than measure something else than was asked."""
    parser, mode = argparse.ArgumentParser(), mode_of(args)
    add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    for name, modes in USED.items():
        if mode not in modes and getattr(args, name) != defaults[name]:
            flag = name.replace("_", "-")
            raise InvalidInput(f"--{flag} is used {' or '.join(modes)} only. Leave it out, or say what it belongs to.")
    if args.clip and mode == COMPARISON and "clip" not in args.distance:
        raise InvalidInput("With --edits, --clip is used by --distance clip only. Add clip there, or leave --clip out.")
    chosen = {name for name in OWN_MODELS if getattr(args, name.replace("-", "_")) is not None}
    if args.captions != defaults["captions"] and not chosen - {"wan"}:
        raise InvalidInput("--captions is used by --free-morph and --diff-morpher only. Add one, or leave it out.")
    if args.offload and "wan" not in chosen:
        raise InvalidInput("--offload is used by --wan only. Add it, or leave --offload out.")
    if args.concept_sliders and mode == PIE and CONCEPT_SLIDER not in (args.baselines or ()):
        raise InvalidInput(f"On PIE-Bench, --concept-sliders is used by --baselines {CONCEPT_SLIDER} only. Add it.")


def command_line(args: argparse.Namespace) -> str:
    """The command with every flag that was used spelled out, so that it means the same when defaults change."""
    words, mode = ["kontext-slider", "evaluate"], mode_of(args)
    for name, value in vars(args).items():
        flag = "--" + name.replace("_", "-")
        if name in ("command", "module") or value is None or value is False or mode not in USED.get(name, (mode,)):
            continue
        if name == "ablation":
            words += [word for pair in value for word in (flag, pair)]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
