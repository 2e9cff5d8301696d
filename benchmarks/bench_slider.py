"""One new strength and a sweep of eleven frames, ours at every speed against others, same weights, size and steps.

The others: a plain FluxKontextPipeline call (which has no strength), a whole pipeline call with a strength, as the
authors' demo makes for every position of its slider (without our anchor, which would cost it a second frame), and
FluxKontextPipeline with diffusers' own step caches, which have little to skip in two steps (try --steps 12), and lose
something: dB of PSNR to the plain call's pictures, mean over SEEDS seeds (ours: bench_fidelity.py). "floor" is
not a way to make a frame: it does the matrix products and attention of an exact one and nothing else. Rounds are
interleaved, so a slow moment of the machine meets all. Prints a table and one line of JSON.

A new strength is asked of a session that has finished the five coarse frames, 0, 1, 1/2, 1/4 and 3/4, as the app's has
after a moment; "first" is one where nothing is finished, and "hand" one where a strip of eleven frames is.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig, FluxKontextPipeline, TaylorSeerCacheConfig
from floor import products_of
from line import print_line
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.engine import EditSession, ends_first
from kontext_slider.engine.speed import NAMES
from kontext_slider.evaluate.picture import to_picture
from kontext_slider.evaluate.truth import psnr
from kontext_slider.images import read_image
from kontext_slider.presets import load_pipeline

ROOT = Path(__file__).resolve().parents[1]
INSTRUCTION = "make it night"
FRAMES = 11
SEEDS = 4
CACHES = {
    "first-block cache": FirstBlockCacheConfig(threshold=0.1),
    "taylorseer cache": TaylorSeerCacheConfig(taylor_factors_dtype=torch.float32),
}

Call = Callable[[int], Any]  # (number of the round)


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


def engine_calls(pipe, photo: Image.Image, compiled: bool) -> dict[str, Call]:
    """Ours, by speed: a new strength after none, five and eleven finished ones, and a sweep in a session of its own.

    compiled: by torch, as the app's --compile; the first frames, which wait for it, are in no round that counts."""
    calls: dict[str, Call] = {}
    for name in NAMES:
        engine = SliderEngine(pipe, speed=name, compiled=compiled)
        for seed, (situation, num_finished) in enumerate({"first": 0, "new strength": 5, "hand": FRAMES}.items()):
            session = engine.open(photo, INSTRUCTION, seed=seed)
            finished = ends_first(FRAMES if num_finished > 5 else 5)[:num_finished]
            calls[f"{name}: {situation}"] = new_strength(session, finished)

        def sweep(number: int, engine=engine) -> object:
            with engine.open(photo, INSTRUCTION, seed=100 + number) as session:
                return list(session.sweep(FRAMES))

        calls[f"{name}: sweep"] = sweep
    return calls


def new_strength(session: EditSession, finished: Sequence[float]) -> Call:
    """Another strength in every round, to a session that remembers the `finished` ones alone."""
    list(session.frames(finished))
    late_start = session._check_open()._late_start
    rendered, places = set(session._rendered), set(late_start._strengths)

    def call(number: int) -> object:
        session._rendered, late_start._strengths = set(rendered), set(places)
        return session.render(strength_of(number))

    return call


def floor_call(pipe, photo: Image.Image) -> Call:
    """The products and attention of an exact new strength alone: no way to compute the same frame can take less."""
    session = SliderEngine(pipe).open(photo, INSTRUCTION)
    session.render(0.5)  # and what the frame at 0 loses
    return products_of(lambda: session.render(strength_of(0)))


def strength_of(number: int) -> float:
    """A strength not asked for before and not on the strip, never 0."""
    return (0.37 + 0.0137 * number) % 1


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round, after one round that does not count. Every round has an order of its own: a
    call that always follows the same other one pays, or does not pay, for the memory that it let go."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[name](number)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


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
    parser.add_argument("--compile", action="store_true", help="let torch compile our blocks")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    if args.steps:
        pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "steps": args.steps})
    pipe.set_progress_bar_config(disable=True)
    photo = read_image(ROOT / "assets" / "photos" / "cat.jpg")
    source = SliderEngine(pipe).open(photo, INSTRUCTION).source
    calls = {
        "plain": plain_call(pipe, source),
        **{f"plain, {name}": cached_call(pipe, source, config) for name, config in CACHES.items()},
        "demo": demo_call(pipe, source),
        "floor": floor_call(pipe, photo),
        **engine_calls(pipe, photo, args.compile),
    }
    seconds = interleaved(calls, 5 if args.quick else args.rounds)
    near = {name: decibels(calls[f"plain, {name}"], calls["plain"]) for name in CACHES}
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
    for name, values in seconds.items():
        frames = FRAMES if name.endswith("sweep") else 1
        ratio = frames * plain / medians[name]
        print(f"{name:26s} {medians[name]:8.4f} s   ({min(values):.4f} to {max(values):.4f})   {ratio:8.2f} x plain")
    for name, value in near.items():
        print(f"plain, {name}: {value:.1f} dB to plain")
    line = {
        "exact_ratio": round(plain / medians["exact: new strength"], 3),
        "floor_ratio": round(plain / medians["floor"], 3),
        "fast_ratio": round(plain / medians["fast: new strength"], 3),
        "fastest_ratio": round(plain / medians["fastest: new strength"], 3),
        "first_ratio": round(plain / medians["fast: first"], 3),
        "hand_ratio": round(plain / medians["fast: hand"], 3),
        "sweep_ratio": round(FRAMES * plain / medians["fast: sweep"], 3),
        "exact_sweep_ratio": round(FRAMES * plain / medians["exact: sweep"], 3),
        "fastest_sweep_ratio": round(FRAMES * plain / medians["fastest: sweep"], 3),
        "demo_ratio": round(medians["demo"] / medians["exact: new strength"], 3),
        "fast_demo_ratio": round(medians["demo"] / medians["fast: new strength"], 3),
        **{f"{key(name)}_ratio": round(plain / medians[f"plain, {name}"], 3) for name in CACHES},
        **{f"{key(name)}_psnr": round(value, 1) for name, value in near.items()},
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "size": size,
        "steps": steps,
        "compiled": args.compile,
        "rounds": len(seconds["plain"]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
    }
    print_line(line, args.out)


def key(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


if __name__ == "__main__":
    main()
