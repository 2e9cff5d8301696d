"""How many steps fast and fastest compute where frames take as many as large models': it depends on the weights.

Of pocket on held-out edits, without its residual correction, as FLUX has none, by the presets of a large model on a GPU
(its batches of frames; fp8 changes no count). A sweep of eleven frames in a session of its own; and in another one the
second strength, one after five coarse frames, and one more that may not be interpolated. Prints a table (each frame of
a batch counts) and one line of JSON: means by speed and place, and under "most" the most that any edit took.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from line import print_line
from PIL import Image
from torch import Tensor

from kontext_slider import SliderEngine
from kontext_slider.edit import SPEED_NAMES
from kontext_slider.engine import ends_first
from kontext_slider.engine.order import NUM_COARSE
from kontext_slider.engine.queue import BatchSize
from kontext_slider.engine.sampling import Denoiser, Velocity
from kontext_slider.engine.speed import preset
from kontext_slider.metrics import to_image
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases

FRAMES = 11
PLACES = ("sweep", "second strength", "after five", "after five, not interpolated")


@contextmanager
def counted() -> Iterator[list[int]]:
    """The frames of every velocity that is computed inside."""
    seen: list[int] = []

    def noted(velocity: Velocity, attached: Callable) -> Denoiser:
        def count(latents: Tensor, step: int) -> Tensor:
            answer = velocity(latents, step)
            seen.append(len(answer))
            return answer

        return Denoiser(count, attached)

    with patch("kontext_slider.engine.sampling.Denoiser", noted):
        yield seen


def steps_of(pipe, speed: str, source: Image.Image, instruction: str) -> list[int]:
    """Computed steps by place (PLACES)."""
    engine = SliderEngine(pipe, speed=speed, compiled=False)
    engine.speed = replace(preset("gpu, large model", speed), dtype=None, compiled=False)
    engine.batch = BatchSize(engine.speed.batch)
    found = []
    with engine.open(source, instruction, seed=0, source_at_zero=False) as session, counted() as seen:
        list(session.sweep(FRAMES))
        found.append(sum(seen))
    with engine.open(source, instruction, seed=1, source_at_zero=False) as session:
        session.render(1.0)
        with counted() as seen:
            session.render(0.4)
            found.append(sum(seen))
        list(session.frames(ends_first(FRAMES)[:NUM_COARSE]))
        for strength in (0.37, 0.63):
            with counted() as seen:
                session.render(strength)
                found.append(sum(seen))
            assert session.shortcuts is not None
            session.shortcuts.bounds = replace(session.shortcuts.bounds, frame_psnr=None)
    return found


def figures_of(steps: dict[str, np.ndarray]) -> dict:
    """Means, and "most", by speed and place. `steps`: by speed, (edits, places)."""
    means = {name: dict(zip(PLACES, rows.mean(axis=0).round(2).tolist(), strict=True)) for name, rows in steps.items()}
    most = {name: dict(zip(PLACES, rows.max(axis=0).tolist(), strict=True)) for name, rows in steps.items()}
    return {**means, "most": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--edits", type=int, default=33)
    parser.add_argument("--quick", action="store_true", help="two edits")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "steps": args.steps, "anchor_source": False})
    cases = draw_cases(2 if args.quick else args.edits, pipe.defaults.size, HELD_OUT_SEED + 7)
    line: dict = {"edits": len(cases), "steps": args.steps, "date": datetime.date.today().isoformat()}
    print(f"{args.steps} steps a frame, of {FRAMES * args.steps} of a sweep; mean (most)")
    steps = {}
    for name in SPEED_NAMES[1:]:
        steps[name] = np.array([steps_of(pipe, name, to_image(case.source), case.instruction) for case in cases])
        for place, mean, most in zip(PLACES, steps[name].mean(axis=0), steps[name].max(axis=0), strict=True):
            print(f"{name:8s} {place:22s} {mean:7.1f} ({most})", flush=True)
    print_line({**line, **figures_of(steps)}, args.out)


if __name__ == "__main__":
    main()
