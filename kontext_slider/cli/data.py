"""`kontext-slider data`: make training data for a slider, measure morphers, take over data of the authors' format."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from kontext_slider.cli.options import add_model_arguments
from kontext_slider.errors import InvalidInput
from kontext_slider.features import find_distance
from kontext_slider.files import write_whole
from kontext_slider.train.data.categories import check_categories
from kontext_slider.train.data.morph import FREEMORPH, MORPHERS, NAMES, find_morpher
from kontext_slider.train.data.morph.measure import measure_morphers, table
from kontext_slider.train.data.pack import kept_rows, write_dataset
from kontext_slider.train.data.scores import calibrated, measure_drawn
from kontext_slider.train.data.stages import FREEMORPH_MODEL, GRAMMAR, PACK, PACKED, Models, run_stages, title
from kontext_slider.train.data.strips import open_strips
from kontext_slider.train.data.workspace import ENDS, STAGES, Recipe, reopen
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases, scene_cases

DEFAULT = Recipe()
# of a recipe, as they are
FLAGS = ("model", "sources", "writer", "morpher", "ends", "distance", "size", "num_steps", "max_kl", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands of `data`."""
    commands = parser.add_subparsers(title="commands", dest="data_command", required=True)
    _add_run(commands.add_parser("run", help="instruct, edit, morph, score, filter, pack; resumes after a kill"))
    _add_morphers(commands.add_parser("morphers", help="measure every morpher against the ground truth"))
    limits = commands.add_parser("thresholds", help="calibrate the filter for a distance on synthetic edits")
    _add_model(limits)
    limits.add_argument("--distance", default=DEFAULT.distance, help="default: ssim")
    limits.add_argument("--scenes-per-edit", type=int, default=8, help="default: 8")
    limits.add_argument("--seed", type=int, default=0, help="draws scenes (default: 0)")
    limits.set_defaults(work=print_thresholds)
    pack = commands.add_parser("pack", help="one data set out of the folders of several runs")
    pack.add_argument("folders", nargs="+", type=Path, help="folders given to 'data run' as --out")
    pack.add_argument("--out", type=Path, required=True, help="the data set's folder")
    pack.add_argument("--unfiltered", action="store_true", help="as many, drawn from all that the filter saw")
    pack.set_defaults(work=pack_folders)
    strips = commands.add_parser("import-strips", help="data in the authors' format (PNG strips of nine tiles)")
    strips.add_argument("folder", type=Path, help="folder of the strips and their JSON list")
    strips.add_argument("--list", type=Path, dest="listing", help="the JSON list (default: the folder's only one)")
    strips.add_argument("--out", type=Path, required=True, help="the data set's folder")
    strips.set_defaults(work=import_strips)


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder; the same command goes on with it")
    parser.add_argument("--num", type=int, default=100, help="edits to make; may be raised later (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="draws sources, instructions and noise (default: 0)")
    parser.add_argument("--sources", help="a folder of pictures (default: drawn ones)")
    parser.add_argument("--writer", default=GRAMMAR, help="grammar, or a vision-language model: a folder or hub id")
    parser.add_argument("--categories", nargs="+", default=list(DEFAULT.categories), help="default: all seven")
    parser.add_argument("--morpher", default=DEFAULT.morpher, choices=NAMES, help=f"default: {DEFAULT.morpher}")
    parser.add_argument("--ends", default=DEFAULT.ends, choices=ENDS, help="of the frames (default: reconstruction)")
    parser.add_argument("--distance", default=DEFAULT.distance, help="behind scores and filter (default: ssim)")
    parser.add_argument("--max-kl", type=float, default=DEFAULT.max_kl, help="default: 0.15")
    parser.add_argument("--num-steps", type=int, default=DEFAULT.num_steps, help="N; strengths are k/N (default: 6)")
    parser.add_argument("--size", type=int, help="side in pixels of a square of the pictures' area (default: model's)")
    parser.add_argument("--share", default="0/1", metavar="K/N", help="do each N-th item from K on: one of N machines")
    parser.add_argument("--until", default=PACK, choices=(*STAGES, PACK), help="the last stage to do (default: pack)")
    parser.set_defaults(work=make_data)


def _add_morphers(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--edits", type=int, default=25, help="held-out edits (default: 25)")
    parser.add_argument("--seed", type=int, default=0, help="draws scenes and noise (default: 0)")
    parser.add_argument("--distance", default=DEFAULT.distance, help="behind delta_smooth and KL (default: ssim)")
    parser.add_argument("--only", nargs="+", default=list(MORPHERS), choices=NAMES, help="default: all but freemorph")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    parser.set_defaults(work=compare_morphers)


def _add_model(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, has_slider=False)
    parser.add_argument("--freemorph-model", default=FREEMORPH_MODEL, help=f"for {FREEMORPH}: a folder or a hub id")


def run(args: argparse.Namespace) -> int | None:
    """The chosen sub-command; returns an exit status or None."""
    return args.work(args)


def make_data(args: argparse.Namespace) -> None:
    """All stages, or some. Prints where the result is."""
    recipe = recipe_of(args)
    command = "kontext-slider data run " + shlex.join(_words(args))
    models = Models(recipe, args.device, args.dtype, args.freemorph_model)
    run_stages(args.out, recipe, args.num, models, args.until, command)
    print(f"The report is {args.out / 'report' / 'report.md'}.")
    if args.until == PACK:
        print(f"The data is {args.out / PACKED}: datasets.load_dataset({str(args.out / PACKED)!r}).")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the flags describe. InvalidInput for one that cannot be."""
    first, _, step = args.share.partition("/")
    if not (first.isdecimal() and step.isdecimal()):
        raise InvalidInput(f"--share is K/N, such as 0/4, not {args.share!r}.")
    return Recipe(
        **{name: getattr(args, name) for name in FLAGS},
        categories=check_categories(args.categories),
        share=(int(first), int(step)),
    )


def _words(args: argparse.Namespace) -> list[str]:
    """The flags that were not left at their defaults, so that the report says how to repeat the run."""
    recipe = recipe_of(args)
    words = ["--out", str(args.out), "--num", str(args.num)]
    for name in FLAGS:
        if getattr(recipe, name) != getattr(DEFAULT, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(recipe, name))]
    if recipe.categories != DEFAULT.categories:
        words += ["--categories", *recipe.categories]
    return words + (["--share", args.share] if recipe.share != DEFAULT.share else [])


def compare_morphers(args: argparse.Namespace) -> None:
    """Print the table of `morph.measure`."""
    _check_least(args, edits=1, seed=0)
    models = Models(Recipe(model=args.model), args.device, args.dtype, args.freemorph_model)
    pipe = models.pipe
    distance = find_distance(args.distance, pipe)
    morphers = {name: find_morpher(name, *models.place, args.freemorph_model) for name in args.only}
    cases = draw_cases(args.edits, pipe.defaults.size, HELD_OUT_SEED + args.seed)
    text = table(measure_morphers(pipe, cases, morphers, DEFAULT.strengths, distance, args.seed), DEFAULT.max_kl)
    if args.out:
        command = f"kontext-slider data morphers --model {args.model} --edits {args.edits} --seed {args.seed}"
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.out, f"# Morphers\n\n`{command} --distance {args.distance}`\n\n{text}\n".encode())
    print(text)


def print_thresholds(args: argparse.Namespace) -> None:
    """Print calibrated thresholds as they stand in `scores`."""
    _check_least(args, scenes_per_edit=1, seed=0)
    pipe = Models(Recipe(model=args.model), args.device, args.dtype).pipe
    cases = scene_cases(args.scenes_per_edit, pipe.defaults.size, HELD_OUT_SEED + args.seed)
    groups = measure_drawn(pipe, cases, find_distance(args.distance, pipe), DEFAULT.num_steps)
    for category, limit in calibrated(groups).items():
        print(f'    "{category}": Threshold({limit.least_edit:.2f}, {limit.most_loss:.2f}),')


def _check_least(args: argparse.Namespace, **least: int) -> None:
    for name, low in least.items():
        if getattr(args, name) < low:
            flag = name.replace("_", "-")
            raise InvalidInput(f"--{flag} is a number of at least {low}, not {getattr(args, name)}.")


def pack_folders(args: argparse.Namespace) -> None:
    """Kept items of several runs, or as many of all, as one data set."""
    workspaces = [reopen(folder) for folder in args.folders]
    rows = (row for workspace in workspaces for row in kept_rows(workspace, args.unfiltered))
    print(f"{write_dataset(rows, args.out, title(workspaces[0].recipe))} edits in {args.out}.")


def import_strips(args: argparse.Namespace) -> int:
    """The authors' strips as a data set. Returns 1 where some could not be used, with a sentence for each."""
    strips = open_strips(args.folder, args.listing)
    count = write_dataset(strips.rows(), args.out, f"Edits at 7 strengths, from {args.folder.name}")
    for problem in strips.problems:
        print(f"kontext-slider: {problem}", file=sys.stderr)
    print(f"{count} edits in {args.out}; {len(strips.problems)} could not be used.")
    return 1 if strips.problems else 0
