"""The paper's path on the pocket model, from data to its three tables: `make reproduce`.

Every stage is one command that docs/reproduce.md shows, and runs in a process of its own. When it has ended, a note of
it is written: the command, what the stages before it were made by, the commit, the seconds. The same command again goes
on after the last note; what a stage had done when it was killed (items of data, training steps, measured edits) is not
done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kontext_slider.evaluate.paper_tables import FIGURES, REPORT
from kontext_slider.files import file_sha256, write_json
from kontext_slider.presets import PRESETS
from kontext_slider.run_folder import alone_in
from kontext_slider.world.cases import REPORTING_SEED

ROOT = Path(__file__).resolve().parents[1]
FULL, DESIGN = "full", "pocket"  # the paper's method as the paper has it; this repository's design of the same slider
SLIDERS = {  # name -> preset of train-slider and data set
    FULL: ("pocket-paper", "packed"),
    "text-space": ("pocket-paper-text-space", "packed"),
    "no-pooled": ("pocket-paper-no-pooled", "packed"),
    "no-filtering": ("pocket-paper-no-filtering", "unfiltered"),
    DESIGN: ("pocket", "packed"),
}
PACKAGE = "kontext_slider"
MAX_KL = (
    "0.005"  # keeps the paper's share, 58 %; the paper's .15 rejects none of pocket's, and no filter is no ablation
)
Run = Callable[[list[str]], int]


@dataclass(frozen=True)
class Stage:
    """One command, what must be done before it, and a file or folder that it leaves."""

    name: str
    words: list[str]  # of `python -m`
    after: tuple[str, ...]
    result: Path


def main(argv: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Do what is not done; returns the status of the stage that failed, or 0. `run`: how a command is run."""
    args = parse(argv)
    stages = plan(args)
    if args.list:
        print("\n".join(map(typed, stages)))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    with alone_in(args.out):
        made_by: dict[str, str] = {}
        for stage in stages:
            status = do(stage, args, made_by, run or in_a_process)
            if status:
                print(f"The stage {stage.name} failed. The same command goes on from it.", file=sys.stderr)
                return status
    print((args.out / FIGURES).read_text(encoding="utf-8").strip())
    print(f"The report is {args.out / REPORT}.")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make reproduce ARGS=...", description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/reproduce"), help="the folder; the same command goes on with it")
    add(
        "--model",
        default="pocket",
        help="pocket, or the folder of a model that draws its own ground truth as pocket does",
    )
    add("--num", type=int, default=120, help="sequences to make (default: %(default)s)")
    add("--steps", type=int, default=150, help="of every slider's training (default: %(default)s)")
    add("--runs", type=int, default=1, help="trainings of every slider, which differ in their seed (default: 1)")
    add("--edits", type=int, default=24, help="held-out edits that are measured (default: %(default)s)")
    add("--seed", type=int, default=REPORTING_SEED, help="of these edits' scenes (default: %(default)s)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes that measure (default: one a core)")
    add("--data-flags", type=shlex.split, default=[], help="further words for data run, in quotes")
    add("--settings", type=shlex.split, default=[], help="further NAME=VALUE words for train-slider, in quotes")
    add("--concept-settings", type=shlex.split, default=[], help="NAME=VALUE words for train-concept, in quotes")
    add("--evaluate-flags", type=shlex.split, default=[], help='in quotes, which systems: "--free-morph", for example')
    add("--list", action="store_true", help="print the commands and do nothing")
    args = parser.parse_args(argv)
    if min(args.num, args.steps, args.runs, args.edits, args.jobs) < 1:
        parser.error("all counts are 1 or more")
    return args


def plan(args: argparse.Namespace) -> list[Stage]:
    """All stages in order."""
    data = args.out / "data"
    make = [PACKAGE, "data", "run", "--model", args.model, "--out", str(data), "--num", str(args.num)]
    make += ["--max-kl", MAX_KL]
    unfiltered = [PACKAGE, "data", "pack", str(data), "--unfiltered", "--out", str(data / "unfiltered")]
    stages = [
        Stage("data", make + args.data_flags, (), data / "packed" / "README.md"),
        Stage("unfiltered", unfiltered, ("data",), data / "unfiltered" / "README.md"),
    ]
    trained = [train(args, name, number) for name in SLIDERS for number in range(args.runs)]
    measured = [
        measure(
            args, "systems", ["--concept-sliders", str(args.out / "concepts"), *args.evaluate_flags], ("concepts",)
        ),
        measure(args, "sliders", ["--baselines", *ablations(trained)], tuple(stage.name for stage in trained)),
    ]
    write = ["kontext_slider.evaluate.paper_tables", *(str(stage.result.parent) for stage in measured)]
    write += ["--out", str(args.out), "--stages", str(args.out / "stages")]
    return [
        *stages,
        *trained,
        train_concepts(args),
        *measured,
        Stage("report", write, tuple(stage.name for stage in measured), args.out / REPORT),
    ]


def train(args: argparse.Namespace, name: str, number: int) -> Stage:
    """One run of a slider of SLIDERS; the runs of one differ in their seed."""
    preset, rows = SLIDERS[name]
    folder = args.out / "sliders" / (f"{name}-{number + 1}" if number else name)
    words = [PACKAGE, "train-slider", "--data", str(args.out / "data" / rows), "--preset", preset]
    words += ["--out", str(folder), "--cache", str(args.out / "cache")]
    words += [f"model={args.model}", f"steps={args.steps}", f"seed={number}", *args.settings]
    after = "data" if rows == "packed" else rows
    return Stage(f"train-{folder.name}", words, (after,), folder / "slider" / "slider_projector" / "config.json")


def train_concepts(args: argparse.Namespace) -> Stage:
    """Concept Sliders for the instructions that are measured, on scenes that are not."""
    folder = args.out / "concepts"
    words = [PACKAGE, "train-concept", "--model", args.model, "--out", str(folder), "--drawn-scenes"]
    words += ["--edits", str(args.edits), "--seed", str(args.seed), *args.concept_settings]
    return Stage("concepts", words, (), folder)


def ablations(trained: Sequence[Stage]) -> list[str]:
    """The words of evaluate for sliders; runs of one have one name."""
    sliders = [stage.result.parents[1] for stage in trained]
    names = [re.sub(r"-\d+$", "", slider.parent.name) for slider in sliders]
    return [word for pair in zip(names, sliders, strict=True) for word in ("--ablation", "=".join(map(str, pair)))]


def measure(args: argparse.Namespace, name: str, methods: Sequence[str], after: tuple[str, ...]) -> Stage:
    """Some methods, beside this model's slider and what it is made of, on the edits that all are measured on."""
    folder = args.out / "measured" / name
    words = [PACKAGE, "evaluate", "--model", args.model, "--edits", str(args.edits), "--seed", str(args.seed)]
    words += ["--jobs", str(args.jobs), "--strips", "2", "--out", str(folder), "--json", str(folder / "figures.json")]
    return Stage(name, [*words, *methods], after, folder / "figures.json")


def do(stage: Stage, args: argparse.Namespace, made_by: dict[str, str], run: Run) -> int:
    """Run a stage unless a note says that it is done, and note it. Adds its digest to `made_by`."""
    note = args.out / "stages" / f"{stage.name}.json"
    facts = {"command": stage.words, "model": weights_of(args.model), "after": [made_by[name] for name in stage.after]}
    made_by[stage.name] = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    if stage.result.exists() and note.exists() and holds(note, facts):
        print(f"== {stage.name}: done", flush=True)
        return 0
    print(f"== {stage.name}: {typed(stage)}", flush=True)
    start = time.monotonic()
    if status := run(stage.words):
        return status
    note.parent.mkdir(exist_ok=True)
    write_json(note, {**facts, "commit": commit(), "seconds": round(time.monotonic() - start, 1), "ended": time.time()})
    return 0


def typed(stage: Stage) -> str:
    """A stage's command as it is typed in a shell."""
    is_ours = stage.words[0] == PACKAGE
    return shlex.join(["kontext-slider", *stage.words[1:]] if is_ours else ["python", "-m", *stage.words])


def holds(note: Path, facts: dict) -> bool:
    """Whether a note is readable and has these facts."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        return all(noted[name] == value for name, value in facts.items())
    except (ValueError, KeyError, TypeError):
        return False


def weights_of(model: str) -> str:
    """The digest of a model folder's checksums; the name of any other model."""
    sums = Path(PRESETS[model].model if model in PRESETS else model) / "checksums.json"
    return file_sha256(sums) if sums.is_file() else model


def commit() -> str:
    """The commit that this clone is at, with "+" where files are changed; "" outside a clone."""
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip()


def in_a_process(words: list[str]) -> int:
    """The exit status of `python -m words`."""
    return subprocess.run([sys.executable, "-m", *words]).returncode


if __name__ == "__main__":
    sys.exit(main())
