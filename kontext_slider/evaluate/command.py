"""`kontext-slider evaluate`: a model against the drawn truth, against other sliders, and on PIE-Bench."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from kontext_slider.commands.options import checked
from kontext_slider.edit import check_seed
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.beyond import score_beyond
from kontext_slider.evaluate.compare import CEILING, Result
from kontext_slider.evaluate.jobs import compare_seed
from kontext_slider.evaluate.kit import Kit, distances_of, load, make_kit
from kontext_slider.evaluate.pie_report import choose_cases, measure_pie_bench, pie_figures, write_pie_report
from kontext_slider.evaluate.report import OURS, Comparison, figures, write_report
from kontext_slider.evaluate.rivals import RIVALS, ours
from kontext_slider.evaluate.selection import held_out_losses
from kontext_slider.evaluate.truth import find_photos, score_truth, summary
from kontext_slider.evaluate.truth import write_report as write_truth
from kontext_slider.features import DISTANCES, default_distance
from kontext_slider.metrics.networks import CLIP, DINO, ClipEmbedder
from kontext_slider.presets import DTYPES
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("--model", default="pocket", help="pocket, kontext-dev, a model folder or a hub id")
    parser.add_argument("--slider", help="slider weights, a folder or a hub id (default: the model's own)")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first that is there)")
    parser.add_argument("--dtype", choices=DTYPES, help="default: by the device")
    parser.add_argument("--out", type=Path, default=Path("outputs/evaluate"), help="the report's folder")
    parser.add_argument("--json", type=Path, help="write all means as one JSON object")
    parser.add_argument("--seed", type=checked(int, check_seed), default=0, help="draws scenes and noise (default: 0)")
    truth = parser.add_argument_group("against the truth, edit by edit (without --edits and --pie-bench)")
    truth.add_argument("--scenes-per-edit", type=int, default=4, help="held-out scenes per edit (default: 4)")
    truth.add_argument("--photos", type=Path, help="a folder of photographs to measure on as well")
    rivals = parser.add_argument_group("smoothness, calibration, rivals and ablations (with --edits)")
    rivals.add_argument("--edits", type=int, help="number of held-out edits per seed")
    rivals.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on, pooled (default: 1)")
    rivals.add_argument("--rivals", nargs="*", choices=list(RIVALS), help="default: all, and none on PIE-Bench")
    rivals.add_argument("--ablation", action="append", default=[], metavar="NAME=FOLDER", help="a slider to compare")
    rivals.add_argument(
        "--trained-ablations", type=Path, metavar="FOLDER", help="the paper's, trained there where missing"
    )
    rivals.add_argument("--ablation-steps", type=int, default=300, help="steps to train each (default: 300)")
    rivals.add_argument(
        "--ablation-sequences", type=int, default=200,
        help="made by the data pipeline for those that are about its sequences, 3 seconds each (default: 200)",
    )  # fmt: skip
    rivals.add_argument("--free-morph-model", type=Path, help="Stable Diffusion 2.1, for the rival free-morph")
    rivals.add_argument("--jobs", type=int, default=1, help="processes that share the edits (default: 1)")
    rivals.add_argument("--strips", type=int, default=4, help="edits to show side by side (default: 4)")
    pie = parser.add_argument_group("on PIE-Bench")
    pie.add_argument("--pie-bench", type=Path, help="its folder, in its original layout or the hub's (parquet)")
    pie.add_argument("--num", type=int, help="this many of its edits, spread over it (default: the paper's 540)")
    networks = parser.add_argument_group("distances")
    networks.add_argument(
        "--distance", nargs="+", choices=DISTANCES, metavar="NAME", default=[default_distance()],
        help=f"the first is behind the measures, more get a table each: {', '.join(DISTANCES)} (default: %(default)s)",
    )  # fmt: skip
    networks.add_argument("--clip", help=f"CLIP, a folder or hub id, for CLIP-dir and --distance clip; {CLIP}")
    networks.add_argument("--dino", default=DINO, help="DINOv2, a folder or hub id, for --distance dino")


def run(args: argparse.Namespace) -> None:
    """Measure, write the report, print the means as JSON."""
    for name in ("scenes_per_edit", "edits", "seeds", "jobs", "num", "ablation_steps", "ablation_sequences"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} is a number of at least 1, not {getattr(args, name)}.")
    make_room(args.out, args.json)
    if args.pie_bench is not None:
        means = report_pie_bench(args)
    else:
        means = report_truth(args) if args.edits is None else report_rivals(args)
    if args.json:
        args.json.write_text(json.dumps(means, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(means))


def make_room(out: Path, figures: Path | None) -> None:
    """Make the folders of a run's results. Raises InvalidInput where they cannot be, before hours are spent."""
    for flag, folder in (("--out", out), *([("--json", figures.parent)] if figures else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{flag} cannot have the folder {folder} ({error.strerror}). Give another.") from error
    if figures and figures.is_dir():
        raise InvalidInput(f"--json is a file, and {figures} is a folder. Give a name in it.")


def report_truth(args: argparse.Namespace) -> dict[str, Any]:
    """`truth.md` and `truth.jsonl`; returns mean decibels."""
    photos = find_photos(args.photos) if args.photos else []
    scores = score_truth(load(args), args.scenes_per_edit, photos, args.seed)
    write_truth(scores, args.out, command_line(args))
    return summary(scores)


def report_rivals(args: argparse.Namespace) -> dict[str, Any]:
    """`report.md`, `edits.csv` and plots; returns the means."""
    kit = make_kit(args)
    comparison = run_comparison(kit, args)
    write_report(comparison, args.out, command_line(args))
    return figures(comparison)


def run_comparison(kit: Kit, args: argparse.Namespace) -> Comparison:
    """All methods on `--edits` scenes for each of `--seeds` seeds."""
    results: dict[str, list[Result]] = {name: [] for name in (*kit.methods, CEILING)}
    losses: list[float] = []
    for seed in range(args.seed, args.seed + args.seeds):
        keep = spread(args.strips, args.edits) if seed == args.seed else frozenset()
        found = compare_seed(kit, args, seed, keep)
        for name, rows in found.items():
            results[name] += rows
        seen = [row.measures.full_psnr for row in found[OURS]]
        other_words = draw_cases(args.edits, kit.pipe.defaults.size, HELD_OUT_SEED + seed, held_out=True)
        losses += held_out_losses(kit.pipe, ours, seen, other_words, seed)
    going_on = [row.case for row in results[OURS] if row.case.goes_on]
    further = score_beyond(kit.pipe, going_on, args.seed) if going_on else {}
    return Comparison(
        results=results,
        rivals=tuple(kit.rivals),
        ablations=tuple(kit.ablations),
        distances=tuple(kit.distances),
        phrasing_losses=tuple(losses),
        beyond=further,
        offered=frozenset(kit.pipe.known_instructions),
    )


def report_pie_bench(args: argparse.Namespace) -> dict[str, Any]:
    """`pie-bench.md`, `pie-bench.csv` and plots; returns the means."""
    cases, pipe = choose_cases(args.pie_bench, args.num), load(args)
    name, distance = next(iter(distances_of(pipe, args).items()))
    embedder = ClipEmbedder(args.clip, pipe._execution_device) if args.clip else None
    methods = {OURS: ours, **{rival: RIVALS[rival] for rival in args.rivals or ()}}
    results = measure_pie_bench(pipe, cases, methods, distance, embedder, args.seed)
    write_pie_report(results, args.out, command_line(args), name)
    return pie_figures(results, name)


def spread(num: int, count: int) -> frozenset[int]:
    """At most `num` of the numbers below `count`, evenly."""
    num = min(num, count)
    return frozenset(k * count // num for k in range(num)) if num > 0 else frozenset()


def command_line(args: argparse.Namespace) -> str:
    """The command with every flag spelled out, so that it means the same when defaults change."""
    words = ["kontext-slider", "evaluate"]
    for name, value in vars(args).items():
        flag = "--" + name.replace("_", "-")
        if name == "ablation":
            words += [word for pair in value for word in (flag, pair)]
        elif name not in ("command", "module") and value is not None:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
