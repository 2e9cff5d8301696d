"""How cost grows: seconds by number of strengths, side of the picture, denoise steps, and sessions at once.

Every point is a fresh session at the speed "exact", its sweep timed from `open` to the last frame; the points of a
round are interleaved. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from line import print_line

from kontext_slider import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import load_pipeline

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTION = "make it night"
AXES = {
    "strengths": (1, 4, 16, 64),
    "size": (192, 256, 384, 512),
    "steps": (2, 4, 8, 28),
    "sessions": (1, 2, 4, 8),
}
QUICK = {"strengths": (1, 4), "size": (192, 256), "steps": (2, 4), "sessions": (1, 2)}


def sweep(engine: SliderEngine, photo, seed: int, strengths: int = 1, **settings) -> None:
    """Open, render so many strengths, close."""
    with engine.open(photo, INSTRUCTION, seed=seed, **settings) as session:
        for k in range(strengths):
            session.render((k + 1) / (strengths + 1))


def at_once(engine: SliderEngine, photo, seed: int, sessions: int) -> None:
    """So many threads, each with an edit of its own and four strengths."""
    threads = [
        threading.Thread(target=sweep, args=(engine, photo, 10_000_000 + seed * 10 + k, 4)) for k in range(sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def point(engine: SliderEngine, photo, axis: str, value: int) -> Callable[[int], None]:
    """What is timed at one value of one axis; called with a seed of its own each time."""
    if axis == "sessions":
        return lambda seed: at_once(engine, photo, seed, value)
    return partial(sweep, engine, photo, **{axis: value})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two values of each axis, one round")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    engine = SliderEngine(load_pipeline(args.model))
    photo = read_image(ROOT / "assets" / "photos" / "cat.jpg")
    axes, rounds = (QUICK, 1) if args.quick else (AXES, args.rounds)
    calls = {(axis, value): point(engine, photo, axis, value) for axis, values in axes.items() for value in values}
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for number in range(rounds + 1):
        for place, (key, call) in enumerate(calls.items()):
            start = time.perf_counter()
            call(1000 * place + number)  # a seed that no other point has, so that no cache answers
            if number:
                seconds[key].append(time.perf_counter() - start)
    line: dict = {"rounds": rounds, "date": datetime.date.today().isoformat()}
    for (axis, value), values in seconds.items():
        median = statistics.median(values)
        print(f"{axis:10s} {value:5d} {median:9.3f} s   ({min(values):.3f} to {max(values):.3f})")
        line.setdefault(axis, {})[value] = round(median, 4)
    print_line(line, args.out)


if __name__ == "__main__":
    main()
