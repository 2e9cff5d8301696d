"""Two edits one after the other, at random strengths, against the drawn truth of both.

The first edit is any of the synthetic world's, each in turn; the second is one of the whole picture, of another family,
so that its truth is defined on the first one's. Scenes are held out, and have twice the model's side. PSNR in dB of

- chain: the second edit is opened on what the first makes of the photograph (`session.then`);
- dragged: the second edit's transfer comes from a chain whose first slider stood elsewhere, and is applied to the first
  edit at its new strength, as in the page while that slider moves;
- composed: both edits are opened on the photograph, and their transfers are applied one after the other;
- untouched: the photograph.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from line import print_line
from tqdm import tqdm

from kontext_slider import SliderEngine
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.statistics import half_width
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED
from kontext_slider.world.edits import EDITS, PICTURE_EDITS, family
from kontext_slider.world.paint import Picture
from kontext_slider.world.scene import draw, random_scene

FACTOR = 2  # sides of the photograph over sides of the model's picture
SEED = HELD_OUT_SEED + 24  # of scenes, edits and strengths; nothing was chosen on them
WAYS = ("chain", "dragged", "composed", "untouched")


@dataclass(frozen=True)
class Case:
    """Two edits with their words and strengths, and the picture that both should give.

    elsewhere: where the first slider stood when the second edit was opened, for the way "dragged"."""

    edits: tuple[str, str]
    instructions: tuple[str, str]
    strengths: tuple[float, float]
    elsewhere: float
    photograph: Picture
    truth: Picture


def chain_cases(num: int, size: int, seed: int = SEED) -> Iterator[Case]:
    """Scenes of `size` pixels a side; every edit in turn is the first one."""
    for number in range(num):
        rng = np.random.default_rng((seed, number))
        first = list(EDITS.values())[number % len(EDITS)]
        others = [edit for edit in PICTURE_EDITS if family(edit.name) != family(first.name)]
        second = others[rng.integers(len(others))]
        scene = random_scene(rng)
        while not first.targets(scene):
            scene = random_scene(rng)
        target = int(rng.choice(first.targets(scene)))
        nouns = (scene.name_of(target) if first.kinds else None, None)
        words = [rng.choice(edit.instructions(noun)) for edit, noun in zip((first, second), nouns, strict=True)]
        here, there, elsewhere = rng.random(3).tolist()
        once = first.apply(scene, here, size, size, target, unit=FACTOR)
        truth = second.apply_to(once, there, unit=FACTOR)
        edits, instructions = (first.name, second.name), (str(words[0]), str(words[1]))
        yield Case(edits, instructions, (here, there), elsewhere, draw(scene, size, size), truth)


def score(engine: SliderEngine, case: Case) -> dict[str, float]:
    """PSNR to the truth of each of WAYS."""
    photograph, (here, there) = to_image(case.photograph), case.strengths
    with engine.open(photograph, case.instructions[0]) as first, engine.open(photograph, case.instructions[1]) as apart:
        once = first.picture(here)
        with first.then(case.instructions[1], here) as second:
            chain = second.picture(there)
        with first.then(case.instructions[1], case.elsewhere) as second:
            dragged = second.transfer(there).apply(once)
        pictures = (chain, dragged, apart.transfer(there).apply(once), photograph)
    return {way: psnr(to_picture(picture), case.truth) for way, picture in zip(WAYS, pictures, strict=True)}


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean PSNR of each way, and how far the chain is ahead, each with half the width of its 95 % interval."""
    values = {way: np.array([row[way] for row in rows]) for way in WAYS}
    line: dict[str, float] = {"cases": len(rows)}
    for way in WAYS:
        line |= {f"{way}_psnr": round(float(values[way].mean()), 2), f"{way}_95": round(half_width(values[way]), 2)}
    for way in ("dragged", "composed"):
        gain = values["chain"] - values[way]
        line |= {
            f"chain_minus_{way}": round(float(gain.mean()), 2),
            f"chain_minus_{way}_95": round(half_width(gain), 2),
        }
        line[f"cases_where_chain_beats_{way}"] = int((gain > 0).sum())
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=2 * len(EDITS), help="cases")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline("pocket")
    engine = SliderEngine(pipe)
    cases = list(chain_cases(args.num, FACTOR * pipe.defaults.size))
    rows = [score(engine, case) for case in tqdm(cases, unit="case")]
    whole = [row for case, row in zip(cases, rows, strict=True) if EDITS[case.edits[0]].is_global]
    line = {"all": means(rows), "both_of_the_whole_picture": means(whole)}
    print_line(line, args.out)


if __name__ == "__main__":
    main()
