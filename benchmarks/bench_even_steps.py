"""How even the steps of a sweep are: at evenly spaced strengths, and at those that the response curve gives.

Sweeps of eleven frames of drawn scenes and of photographs. The unevenness of a sweep is the coefficient of variation of
the distances between its neighbouring frames: by root mean squares, which the curve is made by, and by the features of
the base model and SSIM, which it is not. Beside the strengths at equal change stand those at equal distance to the
source. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from line import print_line
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.engine import EditSession, grid
from kontext_slider.engine.response import (
    NUM_MEASURED,
    ResponseCurve,
    dead_zones,
    even_strengths,
    jumps,
    measure_response,
)
from kontext_slider.features import find_distance
from kontext_slider.images import read_image
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.metrics.statistics import interval
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases

ROOT = Path(__file__).resolve().parents[1]
STRIP = 11
SETS = {"choose": (11, ("cat", "flower", "rocket")), "report": (12, ("temple", "coffee", "astronaut"))}  # seed, photos
Edits = list[tuple[Image.Image, str]]


def edits_of(pipe, name: str, num_scenes: int, num_photos: int) -> Edits:
    """(source, instruction): held-out scenes, and edits of photographs by instructions for any picture."""
    seed, photos = SETS[name]
    cases = draw_cases(num_scenes, pipe.defaults.size, HELD_OUT_SEED + seed)
    words = [texts[0] for family, texts in pipe.known_instructions.items() if "{" not in family and len(texts) < 40]
    pictures = [read_image(ROOT / "assets" / "photos" / f"{photo}.jpg") for photo in photos]
    pairs = [(pictures[k % len(pictures)], text) for k, text in enumerate(words[:num_photos])]
    return [*((to_image(case.source), case.instruction) for case in cases), *pairs]


def curve_of(session: EditSession, num_measured: int) -> ResponseCurve:
    return measure_response(session.sweep(num_measured))


def by_distance(curve: ResponseCurve) -> ResponseCurve:
    """The curve whose even steps are those of the distance to the source; what falls stands still."""
    return replace(curve, changes=tuple(np.maximum.accumulate(curve.distances).tolist()))


def unevenness(session: EditSession, strengths: Sequence[float], distances: dict) -> dict[str, float]:
    """Coefficient of variation of the steps, by every distance."""
    pictures: list[Picture] = [to_picture(frame) for _, frame in session.frames(strengths)]
    steps = {name: np.diagonal(distance(pictures), 1) for name, distance in distances.items()}
    return {name: float(values.std() / max(values.mean(), 1e-9)) for name, values in steps.items()}


def measure(
    session: EditSession, distances: dict, measured: Sequence[int]
) -> tuple[dict[str, dict[str, float]], ResponseCurve]:
    """The unevenness of each way to space an edit's frames, and its curve."""
    curves = {num: curve_of(session, num) for num in {NUM_MEASURED, *measured}}
    ways = {"evenly spaced": grid(STRIP), "equal distance": even_strengths(by_distance(curves[NUM_MEASURED]), STRIP)}
    ways |= {f"equal change, of {num}": even_strengths(curve, STRIP) for num, curve in curves.items()}
    return {way: unevenness(session, strengths, distances) for way, strengths in ways.items()}, curves[NUM_MEASURED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--set", choices=SETS, default="report", help="which edits (default: report)")
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--photos", type=int, default=21, help="edits of photographs")
    parser.add_argument("--measured", type=int, nargs="*", default=[], help="other numbers of measured strengths")
    parser.add_argument("--quick", action="store_true", help="two edits of each")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    engine = SliderEngine(pipe)
    distances = {name: find_distance(name, pipe) for name in ("rms", "pocket", "ssim")}
    edits = edits_of(pipe, args.set, *((2, 2) if args.quick else (args.scenes, args.photos)))
    found, num_dead, num_jumps = [], 0, 0
    for source, instruction in edits:
        with engine.open(source, instruction) as session:
            unevennesses, curve = measure(session, distances, args.measured)
        found.append(unevennesses)
        num_dead, num_jumps = num_dead + bool(dead_zones(curve)), num_jumps + bool(jumps(curve))
    line: dict = {"set": args.set, "edits": len(edits), "with dead zones": num_dead, "with jumps": num_jumps}
    for way in found[0]:
        values = {name: np.array([each[way][name] for each in found]) for name in distances}
        before = {name: np.array([each["evenly spaced"][name] for each in found]) for name in distances}
        row = {name: round(float(each.mean()), 3) for name, each in values.items()}
        line[way] = {"mean": row}
        if way != "evenly spaced":
            change = {name: [round(end, 3) for end in interval(values[name] - before[name])] for name in distances}
            line[way]["change"] = change
        print(f"{way:22s}", line[way])
    print(f"{num_dead} edits with dead zones, {num_jumps} with jumps, of {len(edits)}")
    print_line({**line, "date": datetime.date.today().isoformat()}, args.out)


if __name__ == "__main__":
    main()
