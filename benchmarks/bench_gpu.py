"""The 12-billion model on a GPU: a step, a new strength and a sweep, ours against others, and memory.

Weights are random and of full size (`flux_size.py`): how long a step takes does not depend on their values. What fast
and fastest leave out does, so "exact" and "fp8" (fastest's) compute every step of every frame, and "fast" and
"fastest" as many, after a first frame, as pocket's plans have (`bench_steps.py`): no frame of theirs is warm-started
or is interpolated. Others: the plain bfloat16 FluxKontextPipeline; the same by the flux-fast recipe as far as its parts
are here (projections fused, blocks compiled, VAE channels_last; a step of it also in fp8, where torchao is);
the authors' demo, a whole pipeline call per strength.

Memory of an open session is measured on a pipeline placed with low VRAM, with as much of the card as a smaller one has.

Steps are timed alone (`step_times.py`), whole calls in interleaved rounds, a sweep once, as it is long. Prints tables
and a line of JSON; --out is written after every part. Without a CUDA device it says so and ends; --tiny runs the script
itself on tiny weights, on any device.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from bench_slider import FRAMES, INSTRUCTION, Call, demo_call, interleaved, plain_call, settings, strength_of
from diffusers import FluxKontextPipeline
from flux_size import quantized, random_pipeline
from line import print_line
from PIL import Image
from step_times import StepTimes, flux_fast

from kontext_slider import SliderEngine
from kontext_slider.engine import EditSession
from kontext_slider.engine.shortcuts import Bounds
from kontext_slider.memory import place_with_low_vram
from kontext_slider.pipeline import KontextSliderPipeline

GB = 1e9
CARD_GB = {"low VRAM": 24, "low VRAM, int8": 16}  # of smaller cards, that sessions are opened on
POCKETS_STEPS = {"fast": 7, "fastest": 4}  # of 28: the second strength's of bench_steps.py, rounded up


def flux_fast_call(pipe, source: Image.Image) -> Call:
    """A plain call of a copy by the flux-fast recipe."""
    parts = {k: v for k, v in pipe.components.items() if k not in ("slider_projector", "transformer", "vae")}
    vae = copy.deepcopy(pipe.vae).to(memory_format=torch.channels_last)
    plain = FluxKontextPipeline(transformer=flux_fast(pipe.transformer, fp8=False), vae=vae, **parts)
    plain.set_progress_bar_config(disable=True)
    return lambda number: plain(
        source, INSTRUCTION, generator=torch.Generator().manual_seed(number), **settings(pipe, source)
    )


@dataclass(frozen=True)
class Way:
    """Ours: an engine, a seed that is its own, for no edit may find another way's frames, and how many steps are
    computed of frames after an edit's first; None: all."""

    engine: SliderEngine
    seed: int
    computed: int | None = None

    def open(self, photo: Image.Image, size: int, steps: int | None = None) -> EditSession:
        """A session that interpolates no frame, and computes the one at strength 0 as well."""
        skip_error = None if self.computed is None else 1.0
        bounds = None if skip_error is None else Bounds(skip_error=skip_error)
        self.engine.speed = replace(self.engine.speed, shortcuts=bounds)
        return self.engine.open(photo, INSTRUCTION, self.seed, steps, size=size, source_at_zero=False)

    def skip(self, session: EditSession) -> None:
        """From now on: spaced evenly, the first and the last among them."""
        if self.computed is not None:
            steps = np.linspace(0, session.steps - 1, min(self.computed, session.steps))
            assert session.shortcuts is not None
            session.shortcuts.skipping.schedule = tuple(steps.round().astype(int).tolist())


def our_ways(pipe) -> dict[str, Way]:
    exact, fastest = (SliderEngine(pipe, speed=name, compiled=True) for name in ("exact", "fastest"))
    return {
        "exact": Way(exact, 1),
        "fp8": Way(fastest, 2),
        "fast": Way(exact, 3, POCKETS_STEPS["fast"]),
        "fastest": Way(fastest, 4, POCKETS_STEPS["fastest"]),
    }


def sweep_seconds(way: Way, photo: Image.Image, size: int) -> float:
    """Of a sweep of eleven frames in a session of its own, after one of three steps that does not count."""
    seconds = 0.0
    for steps in (3, None):
        start = time.perf_counter()
        with way.open(photo, size, steps) as session:
            frames = session.sweep(FRAMES)
            next(frames)
            way.skip(session)
            list(frames)
        seconds = time.perf_counter() - start
    return seconds


@contextmanager
def card_of(gigabytes: float, device: torch.device) -> Iterator[None]:
    """No more of a GPU than a smaller one has."""
    if device.type != "cuda":
        yield
        return
    gc.collect()  # engines and their sessions hold each other
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(gigabytes * GB / torch.cuda.mem_get_info(device)[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def memory_of_a_session(pipe, photo: Image.Image, size: int) -> dict[str, float]:
    """GB at most, weights included, until the first frame, and while a new strength is rendered; empty on a CPU."""
    is_gpu, found = torch.cuda.is_available(), {}
    for name, strength in {"opening": 0.5, "new strength": 0.4}.items():
        if is_gpu:
            torch.cuda.reset_peak_memory_stats()
        if name == "opening":
            session = SliderEngine(pipe).open(photo, INSTRUCTION, size=size)
        session.render(strength)
        if is_gpu:
            found[name] = round(torch.cuda.max_memory_allocated() / GB, 2)
    return found


def memory_by_placement(pipe, photo: Image.Image, sizes: list[int], device: torch.device) -> list[dict]:
    """Of sessions on a pipeline that is placed with low VRAM, and on that in fp8 where torchao is."""
    found: list[dict] = []
    place_with_low_vram(pipe.to("cpu"), device)
    for name, gigabytes in CARD_GB.items():
        if name == "low VRAM, int8":
            if not find_spec("torchao"):
                break
            quantized(pipe)
        for size in sizes:
            with card_of(gigabytes, device):
                found.append({"how": name, "size": size, "card": gigabytes} | memory_of_a_session(pipe, photo, size))
            print(f"GB of an open session: {found[-1]}", flush=True)
    return found


def whole_calls(pipe, photo: Image.Image, size: int, rounds: int) -> dict[str, float]:
    """Median seconds of a frame by each way, and of the sweeps."""
    gc.collect()  # copies of weights that steps were timed with
    ways = our_ways(pipe)
    sessions: dict[str, EditSession] = {}
    for name, way in ways.items():
        session = sessions[name] = way.open(photo, size)
        session.render(0.5)  # copies its weights while there is room
        way.skip(session)
    source = sessions["exact"].source
    calls = {"plain": plain_call(pipe, source), "demo": demo_call(pipe, source)}
    calls["flux-fast"] = flux_fast_call(pipe, source)
    for name, session in sessions.items():
        calls[f"{name}: new strength"] = partial(_render, session)
    seconds = interleaved(calls, rounds)  # each ends with a picture in main memory, so the device is done
    for name, values in seconds.items():
        print(f"{name:30s} {statistics.median(values):8.3f} s   ({min(values):.3f} to {max(values):.3f})", flush=True)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    for name, way in ways.items():
        found[f"{name}: sweep"] = sweep_seconds(replace(way, seed=way.seed + 10), photo, size)
        print(f"{name + ': sweep':30s} {found[f'{name}: sweep']:8.3f} s", flush=True)
    return {name: round(value, 4) for name, value in found.items()}


def _render(session: EditSession, number: int) -> object:
    return session.render(strength_of(number))


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """To a plain call for every frame."""
    frames = {name: FRAMES if name.endswith("sweep") else 1 for name in seconds}
    return {name: round(frames[name] * seconds["plain"] / value, 3) for name, value in seconds.items()}


def steps_of(times: StepTimes) -> dict[str, object]:
    """A step by every way, and its parts."""
    print(f"{times.frame_size[0]} x {times.frame_size[1]} pixels", flush=True)
    steps: dict[str, float] = {}
    firsts: dict[str, float] = {}
    for name, milliseconds, first in times.by_way():
        steps[name], firsts[name] = round(milliseconds, 3), round(first, 2)
        ratio = steps["plain"] / milliseconds
        print(f"a step, {name:32s} {milliseconds:8.2f} ms {ratio:8.2f} x plain (the first {first:.1f} s)", flush=True)
    parts = {name: round(value, 3) for name, value in times.parts().items()}
    print(parts, flush=True)
    return {"size": times.frame_size, "step_ms": steps, "first_step_s": firsts, "parts": parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="the first is also timed whole")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two rounds at 512 pixels")
    parser.add_argument("--tiny", action="store_true", help="tiny weights, to try the script on any device")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.rounds = [512], 2
    if not torch.cuda.is_available() and not args.tiny:
        print("There is no CUDA device here: nothing measured.")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def pipeline() -> KontextSliderPipeline:
        return random_pipeline([INSTRUCTION], device, dtype, args.tiny, args.steps)

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    memory = memory_by_placement(pipeline(), photo, args.sizes, device)
    pipe = pipeline()  # what was placed with low VRAM cannot be moved again
    first, *larger = (StepTimes(pipe, photo, INSTRUCTION, size, 1 if n else 8) for n, size in enumerate(args.sizes))
    line: dict = {
        "steps": args.steps,
        "rounds": args.rounds,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "session_gb": memory,
        "tables": [steps_of(first)],
    }
    print_line(line, args.out)
    line["seconds"] = whole_calls(pipe, photo, args.sizes[0], args.rounds)
    line["ratios"] = ratios(line["seconds"])
    line["tables"] += [steps_of(times) for times in larger]
    print_line(line, args.out)
    line["flux_fast_fp8_ms"] = first.flux_fast_in_fp8()
    print_line(line, args.out)


if __name__ == "__main__":
    main()
