"""Seconds of an exact frame alone, and beside processes that keep the processor busy, by how torch's threads wait.

Every way to wait has a process of its own, as OpenMP reads the environment once; they render in turns, an order of its
own for every round, and sleep between. Processes that are not this benchmark's make it meaningless: run it on an idle
machine. Prints a table and one line of JSON: medians in seconds, and how many times as long as the default alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from line import print_line

WAYS = {  # environment variables
    "default": {},
    "100000 spins": {"GOMP_SPINCOUNT": "100000"},
    "10000 spins": {"GOMP_SPINCOUNT": "10000"},
    "1000 spins": {"GOMP_SPINCOUNT": "1000"},
    "no spins": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OURS = {name for way in WAYS.values() for name in way}
ROOT = Path(__file__).resolve().parents[1]
STEPS = 2


def render_when_asked() -> None:
    """For each line on standard input, render a frame and print its seconds."""
    from kontext_slider import SliderEngine
    from kontext_slider.presets import load_pipeline

    pipe = load_pipeline("pocket")
    session = SliderEngine(pipe).open(ROOT / "assets" / "photos" / "cat.jpg", "make it night", steps=STEPS)
    session.render(0.5)
    print("ready", flush=True)
    for number, _ in enumerate(sys.stdin):
        start = time.perf_counter()
        session.render((0.37 + 0.0137 * number) % 1)
        print(time.perf_counter() - start, flush=True)


@contextmanager
def renderers() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A process for each way to wait, ready to render."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    command = [sys.executable, __file__, "--render"]
    processes = {
        name: subprocess.Popen(
            command,
            env=environment | way,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, way in WAYS.items()
    }
    try:
        for process in processes.values():
            if answer(process) != "ready":
                raise SystemExit("A process that should render has ended. Run it by hand with --render.")
        yield processes
    finally:
        for process in processes.values():
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str]) -> float:
    """Seconds of a frame."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(answer(process))


@contextmanager
def neighbours(num: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--render", action="store_true", help="be one of the processes that render")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    if args.render:
        return render_when_asked()
    load = os.getloadavg()[0]
    seconds: dict[str, dict[str, list[float]]] = {}
    with renderers() as processes:
        for num in range(3):
            with neighbours(num):
                found = seconds[f"beside {num}"] = {name: [] for name in WAYS}
                for number in range(args.rounds):
                    for name in random.Random(number).sample(list(WAYS), len(WAYS)):
                        found[name].append(ask(processes[name]))
    report(seconds, load, args)


def report(seconds: dict[str, dict[str, list[float]]], load: float, args: argparse.Namespace) -> None:
    """A table and the JSON line."""
    medians = {beside: {name: statistics.median(each) for name, each in f.items()} for beside, f in seconds.items()}
    alone = medians["beside 0"]["default"]
    times = {beside: {name: round(each / alone, 2) for name, each in f.items()} for beside, f in medians.items()}
    print(f"{'':14s}" + "".join(f"{beside:>22s}" for beside in medians))
    for name in WAYS:
        print(f"{name:14s}" + "".join(f"{medians[b][name]:12.3f} s ({times[b][name]:4.1f} x)" for b in medians))
    line = {
        "seconds": {beside: {name: round(each, 4) for name, each in f.items()} for beside, f in medians.items()},
        "times_alone": times,
        "steps": STEPS,
        "rounds": args.rounds,
        "load_before": round(load, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.date.today().isoformat(),
    }
    print_line(line, args.out)


if __name__ == "__main__":
    main()
