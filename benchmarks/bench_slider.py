"""One new strength and a sweep of eleven frames, ours at every speed against others, same weights, size and steps.

The others: a plain FluxKontextPipeline call (which has no strength), a whole pipeline call with a strength, as the
authors' demo makes for every position of its slider (without our correction, which would cost it a second frame), and
FluxKontextPipeline with diffusers' own step caches, which have nothing to skip in one step (try --steps 12), and lose
something: dB of PSNR to the plain call's pictures, mean over SEEDS seeds (ours: bench_fidelity.py). "floor" is
not a way to make a frame: it does the matrix products and attention of an exact one and nothing else. Rounds are
interleaved, so a slow moment of the machine meets all. Prints a table and one line of JSON.

A visit is what a user does: a photograph and an instruction that the engine has not seen are opened ("open"), then two
strengths are asked for, each timed by itself. Below strength 1 the first frame of an edit waits for another one, at 0
(`residual.py`), and where steps are skipped, a first frame finds out which. "first at 1" needs no frame at 0, so
"second below 1, after 1" waits for it; "first below 1" waits for all, and "second below 1" for nothing but itself. A
sweep opens a new photograph, too, and that is part of its time.

"new strength" is asked of a session that has finished the five coarse frames, 0, 1, 1/2, 1/4 and 3/4, as the app's has
after a moment; "interactive" of one where a strip of eleven frames is finished.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, FluxKontextPipeline, TaylorSeerCacheConfig
from floor import products_of
from line import print_line
from PIL import Image, ImageChops

from kontext_slider import SliderEngine
from kontext_slider.edit import SPEED_NAMES
from kontext_slider.engine import ends_first
from kontext_slider.images import read_image
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.presets import load_pipeline

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTION = "make it night"
FRAMES = 11
SEEDS = 4
CACHES = {
    "first-block cache": FirstBlockCacheConfig(threshold=0.1),
    "taylorseer cache": TaylorSeerCacheConfig(taylor_factors_dtype=torch.float32),
}

FROM_ONE = {"first at 1": 1.0, "second below 1, after 1": 0.37}
BELOW_ONE = {"first below 1": 0.37, "second below 1": 0.61}
RATIOS = {  # of the JSON line: how many plain calls take as long; of a sweep, how many times its frames as plain calls
    **{f"{speed}_ratio": f"{speed}: new strength" for speed in SPEED_NAMES},
    **{f"{speed}_sweep_ratio": f"{speed}: sweep" for speed in SPEED_NAMES},
    **{f"{speed}_first_ratio": f"{speed}: first below 1" for speed in SPEED_NAMES},
    **{f"{speed}_second_ratio": f"{speed}: second below 1" for speed in SPEED_NAMES},
    "interactive_ratio": "fast: interactive",
    "sweep_ratio": "fast: sweep",
    "floor_ratio": "floor",
    "first_block_cache_ratio": "plain, first-block cache",
    "taylorseer_cache_ratio": "plain, taylorseer cache",
}

Call = Callable[[int], Any]  # (number of the round) -> Timed, or anything where the whole call is one row


@dataclass(frozen=True)
class Timed:
    """What a call of several rows took, in seconds by row."""

    seconds: dict[str, float]


def plain_call(pipe, source: Image.Image) -> Call:
    """One FluxKontextPipeline call with the engine's settings: encode, denoise, decode, without slider or strength."""
    plain = FluxKontextPipeline(**{k: v for k, v in pipe.components.items() if k != "slider_projector"})
    plain.set_progress_bar_config(disable=True)
    return lambda number: plain(
        source, INSTRUCTION, generator=torch.Generator().manual_seed(number), **settings(pipe, source)
    )


def cached_call(pipe, source: Image.Image, config) -> Call:
    """The same with one of diffusers' step caches, which FluxKontextPipeline itself gives no context to."""
    parts = {k: v for k, v in pipe.components.items() if k not in ("slider_projector", "transformer")}
    transformer = copy.deepcopy(pipe.transformer)
    transformer.unload_lora()
    transformer.enable_cache(config)
    plain = FluxKontextPipeline(transformer=transformer, **parts)
    plain.set_progress_bar_config(disable=True)

    def call(number: int) -> object:
        with transformer.cache_context("cond"):
            return plain(source, INSTRUCTION, generator=torch.Generator().manual_seed(number), **settings(pipe, source))

    return call


def demo_call(pipe, source: Image.Image) -> Call:
    """What the authors' demo does per strength: a whole pipeline call with a strength."""
    demo = copy.copy(pipe)
    demo._internal_dict = copy.copy(pipe._internal_dict)
    demo.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": False})
    demo.set_progress_bar_config(disable=True)
    return lambda number: demo(source, INSTRUCTION, strength=strength_of(number), **settings(pipe, source))


def settings(pipe, source: Image.Image) -> dict:
    """Sizes and steps that every call shares."""
    defaults = pipe.defaults
    return {
        "height": source.height,
        "width": source.width,
        "max_area": source.height * source.width,
        "_auto_resize": False,
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance,
        "max_sequence_length": defaults.max_sequence_length,
    }


def engine_calls(pipe, photo: Image.Image, args: argparse.Namespace) -> dict[str, Call]:
    """Ours, by speed: two visits, a new strength after five and after eleven finished ones, and a sweep.

    The first frames of a compiled engine, which wait for the compiler, are in no round that counts."""
    calls: dict[str, Call] = {}
    for name in SPEED_NAMES:
        engine, photos = SliderEngine(pipe, speed=name, compiled=args.compile), new_photographs(photo)
        calls[f"{name}: visit, from 1"] = visit(engine, photos, FROM_ONE)
        calls[f"{name}: visit, below 1"] = visit(engine, photos, BELOW_ONE)
        if args.visits:
            continue
        for seed, (situation, num_finished) in enumerate({"new strength": 5, "interactive": FRAMES}.items()):
            finished = ends_first(FRAMES if num_finished > 5 else 5)[:num_finished]
            calls[f"{name}: {situation}"] = new_strength(engine, photo, 1000 * seed, finished, situation)
        calls[f"{name}: sweep"] = sweep(engine, photos)
    return calls


def visit(engine: SliderEngine, photos: Iterator[Image.Image], strengths: dict[str, float]) -> Call:
    """Open an edit that the engine has not seen, then render `strengths` (row -> strength), each timed."""

    def call(number: int) -> Timed:
        photo, seconds, start = next(photos), {}, time.perf_counter()
        with engine.open(photo, new_instruction(number)) as session:
            seconds["open"] = time.perf_counter() - start
            for row, strength in strengths.items():
                start = time.perf_counter()
                session.render(strength)
                seconds[row] = time.perf_counter() - start
        return Timed(seconds)

    return call


def sweep(engine: SliderEngine, photos: Iterator[Image.Image]) -> Call:
    """All frames of a new photograph, and its second one, both from before it is opened."""

    def call(number: int) -> Timed:
        photo, start = next(photos), time.perf_counter()
        with engine.open(photo, new_instruction(number)) as session:
            times = [time.perf_counter() - start for _ in session.sweep(FRAMES)]
        return Timed({"sweep": times[-1], "second frame of a sweep": times[1]})

    return call


def new_photographs(photo: Image.Image) -> Iterator[Image.Image]:
    """The photograph, moved by one more pixel each time: an engine has seen none of them."""
    return (ImageChops.offset(photo, number, 0) for number in range(photo.width))


def new_instruction(number: int) -> str:
    return f"{INSTRUCTION} {number}"


def new_strength(engine: SliderEngine, photo: Image.Image, seed: int, finished: Sequence[float], row: str) -> Call:
    """Another strength in every round, timed alone, to a new edit that has the `finished` ones. Every round has a seed
    of its own."""

    def call(number: int) -> Timed:
        with engine.open(photo, INSTRUCTION, seed=seed + number) as session:
            list(session.frames(finished))
            start = time.perf_counter()
            session.render(strength_of(number))
            return Timed({row: time.perf_counter() - start})

    return call


def floor_call(pipe, photo: Image.Image) -> Call:
    """The products and attention of an exact new strength alone: no way to compute the same frame can take less."""
    session = SliderEngine(pipe).open(photo, INSTRUCTION)
    session.render(0.5)  # and the source residual
    return products_of(lambda: session.render(strength_of(0)))


def strength_of(number: int) -> float:
    """A strength not asked for before and not on the strip, never 0."""
    return (0.37 + 0.0137 * number) % 1


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of every row in every round, after one round that does not count. Every round has an order of its own: a
    call that always follows the same other one pays, or does not pay, for the memory that it let go."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(list(calls), len(calls)):
            start = time.perf_counter()
            answer = calls[name](number)
            rows = {name: time.perf_counter() - start}
            if isinstance(answer, Timed):
                speed = name.split(":")[0]
                rows = {f"{speed}: {row}": each for row, each in answer.seconds.items()}
            for row, each in rows.items():
                seconds.setdefault(row, []).extend([each] * (number > 0))
    return dict(sorted(seconds.items()))


def decibels(cached: Call, plain: Call) -> float:
    """What a step cache's pictures have to the plain call's of the same seeds."""
    pictures = [[to_picture(call(seed).images[0]) for seed in range(SEEDS)] for call in (cached, plain)]
    return statistics.mean(psnr(*pair) for pair in zip(*pictures, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--steps", type=int, help="denoise steps (default: the model's own)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--visits", action="store_true", help="plain calls and visits alone")
    parser.add_argument("--compile", action="store_true", help="let torch compile our blocks")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    if args.steps:
        pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "steps": args.steps})
    pipe.set_progress_bar_config(disable=True)
    photo = read_image(ROOT / "assets" / "photos" / "cat.jpg")
    source = SliderEngine(pipe).open(photo, INSTRUCTION).source
    calls = {"plain": plain_call(pipe, source), **engine_calls(pipe, photo, args)}
    if not args.visits:
        calls |= {f"plain, {name}": cached_call(pipe, source, config) for name, config in CACHES.items()}
        calls |= {"demo": demo_call(pipe, source), "floor": floor_call(pipe, photo)}
    seconds = interleaved(calls, 5 if args.quick else args.rounds)
    near = {} if args.visits else {name: decibels(calls[f"plain, {name}"], calls["plain"]) for name in CACHES}
    report(seconds, near, source.size, pipe.defaults.steps, args)


def report(
    seconds: dict[str, list[float]],
    near: dict[str, float],
    size: tuple[int, int],
    steps: int,
    args: argparse.Namespace,
) -> None:
    """A table of medians and spread, and the JSON line."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    plain = medians["plain"]
    print(f"{size[0]} x {size[1]} pixels, {steps} steps, {torch.get_num_threads()} threads")
    ratios = {}
    for name, values in seconds.items():
        frames = FRAMES if name.endswith(": sweep") else 1
        ratios[name] = round(frames * plain / medians[name], 3)
        print(
            f"{name:34s} {medians[name]:8.4f} s   ({min(values):.4f} to {max(values):.4f})  {ratios[name]:8.2f} x plain"
        )
    for name, value in near.items():
        print(f"plain, {name}: {value:.1f} dB to plain")
    line = {
        **{key: ratios[row] for key, row in RATIOS.items() if row in ratios},
        **({"demo_ratio": round(medians["demo"] / medians["exact: new strength"], 3)} if "demo" in medians else {}),
        **{f"{name.replace(' ', '_').replace('-', '_')}_psnr": round(value, 1) for name, value in near.items()},
        "ratios": ratios,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "size": size,
        "steps": steps,
        "compiled": args.compile,
        "rounds": len(seconds["plain"]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "load": [round(each, 2) for each in os.getloadavg()],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
    }
    print_line(line, args.out)


if __name__ == "__main__":
    main()
