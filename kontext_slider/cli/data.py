"""`kontext-slider data`: make training data for a slider, measure morphers, take over data of the authors' format."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from kontext_slider.cli.morphers import add_morpher_arguments, add_offload_argument, chosen_morphers
from kontext_slider.cli.options import add_model_arguments, checked, number
from kontext_slider.edit import check_seed
from kontext_slider.features import find_distance
from kontext_slider.files import write_whole
from kontext_slider.metrics import statistics
from kontext_slider.morph import FADES
from kontext_slider.train.config import parse
from kontext_slider.train.data.kept import kept_items
from kontext_slider.train.data.measure_morphers import measure_morphers
from kontext_slider.train.data.object_size import SizeRecipe, sized_items
from kontext_slider.train.data.pack import Packed, write_dataset
from kontext_slider.train.data.recipe import Recipe, complete
from kontext_slider.train.data.scores import calibrated, measure_drawn
from kontext_slider.train.data.stages import PACK, PACKED, Models, run_stages, title
from kontext_slider.train.data.strips import open_strips
from kontext_slider.train.data.workspace import SAVED_AS, STAGES, reopen
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases
from kontext_slider.world.edits import EDITS

DEFAULT = Recipe()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of `data`."""
    add = parser.add_subparsers(title="commands", dest="data_command", required=True).add_parser
    _add_run(add("run", help="instruct, edit, morph, score, filter, pack; resumes after a kill"))
    morphers = add("morphers", help="measure every morpher against the ground truth")
    _add_measuring(morphers, "--edits", 25, "held-out edits")
    morphers.add_argument(
        "--only", nargs="+", default=list(FADES), choices=list(FADES), help="default: all cross-fades"
    )
    add_morpher_arguments(morphers)
    morphers.add_argument("--out", type=Path, help="write the table to this file as well")
    morphers.set_defaults(work=compare_morphers)
    limits = add("thresholds", help="calibrate the filter for a distance on synthetic edits")
    _add_measuring(limits, "--scenes-per-edit", 8, "held-out scenes")
    limits.set_defaults(work=print_thresholds)
    pack = add("pack", help="one data set out of the folders of several runs")
    pack.add_argument("folders", nargs="+", type=Path, help="folders given to 'data run' as --out")
    pack.add_argument("--out", type=Path, required=True, help="the data set's folder")
    pack.add_argument("--unfiltered", action="store_true", help="as many, drawn from all that the filter saw")
    _add_processes(pack)
    pack.set_defaults(work=pack_folders)
    _add_sizes(add("object-size", help="objects on black that grow or shrink, as the paper adds them"))
    strips = add("import-strips", help="data in the authors' format (PNG strips of nine tiles)")
    strips.add_argument("folder", type=Path, help="folder of the strips and their JSON list")
    strips.add_argument("--list", type=Path, dest="listing", help="the JSON list (default: the folder's only one)")
    strips.add_argument("--out", type=Path, required=True, help="the data set's folder")
    _add_processes(strips)
    strips.set_defaults(work=import_strips)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; the same command goes on with it")
    parser.add_argument("--num", type=int, default=100, help="edits to make; may be raised later (default: 100)")
    parser.add_argument("--until", default=PACK, choices=(*STAGES, PACK), help="the last stage to do (default: pack)")
    for name, field in Recipe.model_fields.items():
        if name != "model":
            words = "+" if name == "categories" else None
            parser.add_argument(_flag(name), nargs=words, help=field.description)
    add_offload_argument(parser)
    parser.set_defaults(work=make_data)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    defaults, count = SizeRecipe(), number(int, 1, 10**7)
    parser.add_argument(
        "--cutouts",
        required=True,
        help="a folder of objects, PNG with transparency, each named by what it shows (red-car_03.png); or scenes, "
        "which are drawn",
    )
    parser.add_argument("--masks", type=Path, help="masks of the same names, white where the object is")
    parser.add_argument("--out", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--num", type=count, default=10_000, help="sequences (default: 10000, as in the paper)")
    parser.add_argument("--size", type=number(int, 64, 2048), default=defaults.size, help="pixels (default: 512)")
    parser.add_argument("--num-steps", type=number(int, 2, 100), default=defaults.num_steps, help="N (default: 6)")
    parser.add_argument("--seed", type=checked(int, check_seed), default=0, help="draws all of it (default: 0)")
    parser.add_argument("--pictures", choices=SAVED_AS, default=defaults.pictures, help="default: jpeg")
    _add_processes(parser)
    parser.set_defaults(work=make_sizes)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=number(int, 1, 1024), help="that write at a time (default: one per core)")


def _add_measuring(parser: argparse.ArgumentParser, count: str, default: int, what: str) -> None:
    _add_model(parser)
    parser.add_argument(count, type=number(int, 1, 10**6), default=default, help=f"{what} (default: {default})")
    parser.add_argument("--seed", type=checked(int, check_seed), default=0, help="draws scenes and noise (default: 0)")
    parser.add_argument("--distance", default=DEFAULT.distance, help=f"default: {DEFAULT.distance}")


def _add_model(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, has_slider=False)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def run(args: argparse.Namespace) -> int | None:
    """The chosen sub-command; returns an exit status or None."""
    return args.work(args)


def load(args: argparse.Namespace) -> Models:
    """The models that the flags name."""
    return Models(args.model, args.device, args.dtype)


def make_data(args: argparse.Namespace) -> None:
    """All stages, or some. Prints where the result is."""
    given = {name: getattr(args, name) for name in Recipe.model_fields if getattr(args, name) is not None}
    models = replace(load(args), offload=args.offload)
    recipe = parse(Recipe, complete({"model": args.model, **given}, not models.facts.known_instructions))
    command = ["kontext-slider", "data", "run", "--out", str(args.out), "--num", str(args.num)]
    for name, value in given.items():
        command += [_flag(name), *(value if isinstance(value, list) else [value])]
    run_stages(args.out, recipe, args.num, models, args.until, shlex.join(command))
    print(f"The report is {args.out / 'report' / 'report.md'}.")
    if args.until == PACK:
        print(f"The data is {args.out / PACKED}: datasets.load_dataset({str(args.out / PACKED)!r}).")


def compare_morphers(args: argparse.Namespace) -> None:
    """Print the table of `morph.measure`."""
    models = load(args)
    pipe = models.pipe
    distance = find_distance(args.distance, pipe)
    morphers = {name: FADES[name] for name in args.only} | chosen_morphers(args, *models.place)
    cases = draw_cases(args.edits, pipe.defaults.size, HELD_OUT_SEED + args.seed)
    how = (DEFAULT.strengths, distance, args.seed, DEFAULT.max_kl)
    text = statistics.table(measure_morphers(pipe, cases, morphers, *how), head="morpher")
    if args.out:
        command = f"kontext-slider data morphers --model {args.model} --edits {args.edits} --seed {args.seed}"
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.out, f"# Morphers\n\n`{command} --distance {args.distance}`\n\n{text}\n".encode())
    print(text)


def print_thresholds(args: argparse.Namespace) -> None:
    """Print calibrated thresholds as they stand in `scores`."""
    pipe = load(args).pipe
    cases = draw_cases(args.scenes_per_edit * len(EDITS), pipe.defaults.size, HELD_OUT_SEED + args.seed)
    groups = measure_drawn(pipe, cases, find_distance(args.distance, pipe), DEFAULT.num_steps)
    for category, limit in calibrated(groups).items():
        print(f'    "{category}": Threshold({limit.least_edit:.2f}, {limit.most_loss:.2f}),')


def pack_folders(args: argparse.Namespace) -> int:
    """Kept items of several runs, or as many of all, as one data set."""
    workspaces = [reopen(folder) for folder in args.folders]
    items = kept_items(workspaces, args.unfiltered)
    return report(write_dataset(items, args.out, title(workspaces[0].recipe), processes=args.processes), args.out)


def make_sizes(args: argparse.Namespace) -> int:
    """The object-size set, packed."""
    recipe = SizeRecipe(args.size, args.num_steps, args.seed, args.pictures)
    items = sized_items(args.cutouts, args.masks, args.num, recipe)
    packed = write_dataset(items, args.out, "Objects of a size that changes", processes=args.processes)
    return report(packed, args.out)


def import_strips(args: argparse.Namespace) -> int:
    """The authors' strips as a data set."""
    strips, problems = open_strips(args.folder, args.listing)
    packed = write_dataset(strips, args.out, f"Edits at 7 strengths, from {args.folder.name}", processes=args.processes)
    return report(Packed(packed.count, problems + packed.problems), args.out)


def report(packed: Packed, out: Path) -> int:
    """Print what a data set holds. 1 where some could not be used, with a sentence for each; else 0."""
    for problem in packed.problems:
        print(f"kontext-slider: {problem}", file=sys.stderr)
    print(f"{packed.count} edits in {out}; {len(packed.problems)} could not be used.")
    return 1 if packed.problems else 0
