"""A new strength in an open session against a plain FluxKontextPipeline call: same weights, size and steps, one run.

Rounds are interleaved, so a slow moment of the machine meets both. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.presets import load_pipeline

ROOT = Path(__file__).resolve().parents[1]


def plain_call(pipe, source: Image.Image, instruction: str) -> Callable[[int], object]:
    """One FluxKontextPipeline call with the engine's settings: encode, denoise, decode, without slider or strength."""
    parts = {k: v for k, v in pipe.components.items() if k not in ("slider_projector",)}
    plain = FluxKontextPipeline(**parts)
    plain.set_progress_bar_config(disable=True)
    defaults, (width, height) = pipe.defaults, source.size
    settings = {
        "height": height,
        "width": width,
        "max_area": height * width,
        "_auto_resize": False,
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance,
        "max_sequence_length": defaults.max_sequence_length,
    }
    return lambda number: plain(source, instruction, generator=torch.Generator().manual_seed(number), **settings)


def slider_call(pipe, source: Image.Image, instruction: str) -> Callable[[int], object]:
    """What the authors' demo does per strength, with our pipeline: a whole call with a strength."""
    return lambda number: pipe(
        source, instruction, strength=_strength(number), generator=torch.Generator().manual_seed(0)
    )


def _strength(number: int) -> float:
    """A strength not asked for before, never 0."""
    return (0.37 + 0.0101 * number) % 1


def interleaved(calls: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call(number)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    photo, instruction = read_image(ROOT / "assets" / "photos" / "cat.jpg"), "make it night"
    with SliderEngine(pipe).open(photo, instruction) as session:
        calls = {
            "plain FluxKontextPipeline call": plain_call(pipe, session.source, instruction),
            "pipeline call with a strength": slider_call(pipe, session.source, instruction),
            "new strength in an open session": lambda number: session.render(_strength(number)),
            "strength seen before": lambda number: session.render(_strength(number)),
        }
        seconds = interleaved(calls, 5 if args.quick else args.rounds)
        size = session.size
    report(seconds, size, pipe.defaults.steps, args)


def report(seconds: dict[str, list[float]], size: tuple[int, int], steps: int, args: argparse.Namespace) -> None:
    """A table of medians and spread, and the JSON line."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    plain, demo, new, seen = medians.values()
    print(f"{size[0]} x {size[1]} pixels, {steps} steps, {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        spread = f"{min(values):.4f} to {max(values):.4f}"
        print(f"{name:34s} {medians[name]:8.4f} s   ({spread})   {plain / medians[name]:8.2f} x plain")
    line = {
        "exact_ratio": round(plain / new, 3),
        "demo_ratio": round(demo / new, 3),
        "cached_ratio": round(plain / seen, 1),
        "seconds_per_new_strength": round(new, 4),
        "size": size,
        "steps": steps,
        "rounds": len(next(iter(seconds.values()))),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
    }
    print(json.dumps(line))
    if args.out:
        args.out.write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
