"""Choose the free numbers of the baselines, on scenes that figures are never reported on.

A baseline has one scale, which goes with the strength from its `start` to its `end`, and numbers beside it. For every
setting of those numbers, frames at some scales are rendered once for each choosing case and compared with the truth
at every strength. Chosen is the straight line of scales with the most decibels, on average over strengths 1/6 to 1 and
over cases; between rendered scales decibels are interpolated. Prints a table and one line of JSON, what to write into
`kontext_slider/evaluate/baselines`. What is measured is kept in --lines, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from line import print_line
from tqdm import tqdm

from kontext_slider.evaluate.baselines import BASELINES, available
from kontext_slider.evaluate.baselines.method import ByScale
from kontext_slider.evaluate.results import STRENGTHS
from kontext_slider.files import append_json_line, read_json_lines
from kontext_slider.instructions import NO_EDIT
from kontext_slider.metrics import to_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.statistics import markdown
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED, Case, balanced_case, choosing_seed

NUM_LINE_ENDS = 41  # from which a line's two ends are chosen
Numbers = dict[str, Any]
SCALES: dict[str, tuple[float, ...]] = {  # that are rendered
    "latent-cross-fade": (0, 0.5, 1, 1.1),
    "cfg-scale": (-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25),
    "guidance-scale": (1, 2, 3, 4, 6, 10),
    "attention-reweighting": (0, 0.05, 0.15, 0.3, 0.5, 0.75, 1, 1.5),
    "grag": (0.7, 0.85, 1, 1.2, 1.45, 1.7, 2.2, 3),
    "modulation-scale": (-1, -0.5, 0, 0.5, 1, 1.5, 2),
    "pad-tokens": (0, 0.2, 0.35, 0.5, 0.65, 0.8, 1, 1.2),
    "embedding-steering": (-0.5, 0, 0.2, 0.4, 0.6, 0.8, 1, 1.2),
    "velo-edit": (-0.4, -0.2, 0, 0.25, 0.5, 0.75, 1),
    "flow-slider": (-0.4, -0.2, 0, 0.25, 0.5, 0.75, 1, 1.2),
    "ada-or": (0, 0.1, 0.25, 0.5, 0.75, 1, 1.2),
}
NUMBERS: dict[str, list[Numbers]] = {  # beside the scale, that are tried
    "cfg-scale": [{"negative": NO_EDIT}],
    "attention-reweighting": [{"before_softmax": False}, {"before_softmax": True}],
    "grag": [{"mean_scale": 1.0}, {"mean_scale": 1.15}],
    "modulation-scale": [{"mlp_only": True}, {"mlp_only": False}],
    "pad-tokens": [{"pooled": True, "pads": False}, {"pooled": True, "pads": True}],
    "embedding-steering": [{"pooled": True, "elastic": False}],
    "velo-edit": [{"agreement": agreement, "until": 0.0} for agreement in (0.6, 0.8, 0.95)],
    "flow-slider": [{"steps": None}, {"steps": 4}],
    "ada-or": [{"guidance": 1.0}, {"guidance": 1.0, "steps": 4}],
}
AT_STRENGTHS: dict[str, list[Numbers]] = {  # settings whose strengths do not go to scales on a straight line
    "embedding-steering": [{"elastic": True, "start": start, "limit": 1.0, "pooled": True} for start in (0.0,)]
}
# scales at which nothing is edited: below them is the opposite of the edit, and at strength 0 that is no slider
LOWEST_START = dict.fromkeys(
    ("cfg-scale", "pad-tokens", "embedding-steering", "velo-edit", "flow-slider", "ada-or"), 0.0
)
TIE = 0.03  # dB, within which lines are equal
MOST_LOST = 1.0  # dB at strength 1, of the best scale's there: a slider that never comes to the edit is none


def settings(name: str) -> list[tuple[Numbers, tuple[float, ...]]]:
    """The numbers that are tried, and the scales that each is rendered at; none: the frames are at strengths."""
    on_a_line = [(numbers, SCALES[name]) for numbers in NUMBERS.get(name, [{}])]
    return [*on_a_line, *((numbers, ()) for numbers in AT_STRENGTHS.get(name, []))]


def decibels(
    pipe: KontextSliderPipeline, method: ByScale, case: Case, seed: int, scales: Sequence[float]
) -> list[list[float]]:
    """dB to the truth at strengths above 0, a row for each scale; without scales one row, of the frames at them."""
    truths = [case.truth(strength) for strength in STRENGTHS[1:]]
    image = to_image(case.source)
    if not scales:
        frames = method(pipe, image, case.instruction, STRENGTHS[1:], seed)
        return [[psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)]]
    frames = replace(method, start=0.0, end=1.0)(pipe, image, case.instruction, scales, seed)
    return [[psnr(frame, truth) for truth in truths] for frame in frames]


def best_line(scales: Sequence[float], table: np.ndarray, lowest: float = -np.inf) -> tuple[float, float, float]:
    """(start, end, mean dB) of the best straight line of scales through a table (scales, strengths above 0), of those
    that start at `lowest` or above and lose at most MOST_LOST at strength 1; of equals, the longest."""
    ends = np.linspace(scales[0], scales[-1], NUM_LINE_ENDS)
    start, end = ends[:, None], ends[None, :]
    lines = [
        np.interp(start + strength * (end - start), scales, table[:, k]) for k, strength in enumerate(STRENGTHS[1:])
    ]
    means = np.mean(lines, axis=0)  # (starts, ends)
    means[ends < lowest] = -np.inf
    means[:, lines[-1][0] < table[:, -1].max() - MOST_LOST] = -np.inf
    length = np.where(means >= means.max() - TIE, abs(end - start), -1)
    i, j = np.unravel_index(length.argmax(), length.shape)
    return round(float(ends[i]), 3), round(float(ends[j]), 3), float(means[i, j])


def measure(pipe: KontextSliderPipeline, names: Sequence[str], cases: Sequence[Case], seed: int, lines: Path) -> None:
    """A line in `lines` for every baseline, setting and case that has none yet."""
    done = {(row["baseline"], str(row["numbers"]), row["case"]) for row in read_json_lines(lines)}
    for (n, case), name in tqdm(list(product(enumerate(cases), names))):
        method = BASELINES[name]
        assert isinstance(method, ByScale)
        for numbers, scales in settings(name):
            if (name, str(numbers), n) not in done:
                chosen: Numbers = {"steps": None, **numbers}
                table = decibels(pipe, replace(method, **chosen), case, seed, scales)
                row = {"baseline": name, "numbers": numbers, "scales": scales, "case": n, "decibels": table}
                append_json_line(lines, row)


def choose(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every setting with its best line and mean dB, the best first."""
    tables: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        tables.setdefault((row["baseline"], str(row["numbers"])), []).append(row)
    found = []
    for (name, _), group in tables.items():
        table = np.mean([row["decibels"] for row in group], axis=0)
        numbers = dict(group[0]["numbers"])
        decibel = float(table.mean())
        if scales := group[0]["scales"]:
            numbers["start"], numbers["end"], decibel = best_line(scales, table, LOWEST_START.get(name, -np.inf))
        found.append({"baseline": name, **numbers, "db": round(decibel, 2), "cases": len(group)})
    return sorted(found, key=lambda row: -row["db"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--baselines", nargs="*", choices=list(SCALES))
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--size", type=int, default=192, help="of the scenes, in pixels a side")
    parser.add_argument("--seed", type=int, default=0, help="one of the choosing seeds")
    parser.add_argument("--lines", type=Path, default=Path("outputs/tune-baselines.jsonl"))
    parser.add_argument("--out", type=Path, help="also write the line of JSON to this file")
    args = parser.parse_args(arguments)
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    names = args.baselines or [name for name in available(pipe) if name in SCALES]
    args.lines.parent.mkdir(parents=True, exist_ok=True)
    seed = HELD_OUT_SEED + choosing_seed(args.seed)
    measure(pipe, names, [balanced_case(n, args.size, seed) for n in range(args.cases)], args.seed, args.lines)
    found = choose([row for row in read_json_lines(args.lines) if row["baseline"] in names])
    heads = ("baseline", "dB", "cases", "numbers")
    print(markdown(heads, [(r.pop("baseline"), r.pop("db"), r.pop("cases"), str(r)) for r in map(dict, found)]))
    best: dict[str, Any] = {}
    for row in found:
        best.setdefault(row["baseline"], row)
    print_line({"model": args.model, "seed": args.seed, "chosen": best}, args.out)


if __name__ == "__main__":
    main()
