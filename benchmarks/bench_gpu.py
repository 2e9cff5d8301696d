"""The 12-billion model on a GPU: a new strength and a sweep, ours against others, memory, and where the time goes.

Weights are random and of full size (`flux_size.py`). Others: the plain bfloat16 FluxKontextPipeline, the same by the
flux-fast recipe as far as its parts are here (joined projections, blocks compiled, channels_last VAE), and the authors'
demo, a whole pipeline call per strength. Rounds are interleaved. "fast" and "fastest" save what frames allow; random
weights make other frames than trained ones, so of the trained model only "exact" is told here.

Prints a table for each size and one line of JSON. Without a CUDA device it says so and ends; --tiny runs the script
itself on tiny weights, on any device.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from bench_slider import FRAMES, INSTRUCTION, Call, demo_call, interleaved, new_strength, plain_call, settings
from diffusers import FluxKontextPipeline
from flux_size import random_pipeline
from line import print_line
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from kontext_slider import SliderEngine
from kontext_slider.engine.speed import NAMES
from kontext_slider.placement import place_sparingly

GB = 1e9


def flux_fast_call(pipe, source: Image.Image) -> Call:
    """A plain call of a copy that is compiled by blocks, its projections joined, its VAE channels_last."""
    parts = {k: v for k, v in pipe.components.items() if k not in ("slider_projector", "transformer", "vae")}
    transformer, vae = copy.deepcopy(pipe.transformer), copy.deepcopy(pipe.vae).to(memory_format=torch.channels_last)
    transformer.unload_lora()
    transformer.fuse_qkv_projections()
    transformer.compile_repeated_blocks(fullgraph=True)
    plain = FluxKontextPipeline(transformer=transformer, vae=vae, **parts)
    plain.set_progress_bar_config(disable=True)
    return lambda number: plain(
        source, INSTRUCTION, generator=torch.Generator().manual_seed(number), **settings(pipe, source)
    )


def our_calls(pipe, photo: Image.Image, size: int) -> dict[str, Call]:
    """A new strength in a session that has five coarse frames, and a sweep in a session of its own."""
    calls: dict[str, Call] = {}
    for name in NAMES:
        for compiled in (False, True):
            engine = SliderEngine(pipe, speed=name, compiled=compiled)
            label = f"{name}, compiled" if compiled else name
            session = engine.open(photo, INSTRUCTION, size=size)
            calls[f"{label}: new strength"] = new_strength(session, [0.0, 1.0, 0.5, 0.25, 0.75])

            def sweep(number: int, engine=engine) -> object:
                with engine.open(photo, INSTRUCTION, seed=100 + number, size=size) as session:
                    return list(session.sweep(FRAMES))

            calls[f"{label}: sweep"] = sweep
    return calls


def synchronous(call: Call, device: torch.device) -> Call:
    """A call whose work on the device is done when it returns."""

    def waited(number: int) -> object:
        answer = call(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return answer

    return waited


def parts_of_a_step(pipe, photo: Image.Image, size: int) -> dict[str, float]:
    """FLOPs and milliseconds of one velocity, and the floor: its products at the rate of one large product."""
    session = SliderEngine(pipe).open(photo, INSTRUCTION, size=size)
    session.render(0.5)
    renderer = session._check_open()
    timesteps = torch.linspace(1000, 1, session.steps, device=pipe.device)
    denoiser = renderer._denoiser(timesteps, [0.4])
    latents = renderer._edit.noise
    with torch.no_grad(), denoiser.applied():
        with FlopCounterMode(display=False) as counter:
            denoiser.velocity(latents, 0)
        velocity = seconds_of(lambda: denoiser.velocity(latents, 0), pipe.device)
        strength = seconds_of(lambda: renderer._denoiser(timesteps, [0.4]), pipe.device)
    flops: Counter[str] = Counter()
    for operation, count in counter.get_flop_counts()["Global"].items():
        flops["attention" if "attention" in str(operation) else "products"] += count
    rate = product_rate(pipe.device, pipe.dtype)
    return {
        "products_tflop": flops["products"] / 1e12,
        "attention_tflop": flops["attention"] / 1e12,
        "measured_rate_tflops": rate / 1e12,
        "floor_ms": 1000 * flops.total() / rate,
        "velocity_ms": 1000 * velocity,
        "offsets_of_a_strength_ms": 1000 * strength,
    }


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs in a second of a product of large square matrices."""
    side = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device)


def seconds_of(function, device: torch.device, times: int = 10) -> float:
    """The median of some calls, after three that do not count."""
    waited = synchronous(lambda _: function(), device)
    seconds = []
    for number in range(times + 3):
        start = time.perf_counter()
        waited(number)
        if number >= 3:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def memory_of_a_session(pipe, photo: Image.Image, size: int, device: torch.device) -> float | None:
    """Bytes at most while a new strength of an open edit is rendered, weights included; None on a CPU."""
    session = SliderEngine(pipe).open(photo, INSTRUCTION, size=size)
    session.render(0.5)
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    session.render(0.4)
    return torch.cuda.max_memory_allocated(device)


def measure(pipe, photo: Image.Image, size: int, rounds: int, device: torch.device) -> dict[str, object]:
    """The table of one size."""
    source = SliderEngine(pipe).open(photo, INSTRUCTION, size=size).source
    memory = memory_of_a_session(pipe, photo, size, device)
    calls = {
        "plain": plain_call(pipe, source),
        "plain, flux-fast": flux_fast_call(pipe, source),
        "demo": demo_call(pipe, source),
        **our_calls(pipe, photo, size),
    }
    seconds = interleaved({name: synchronous(call, device) for name, call in calls.items()}, rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: (FRAMES if name.endswith("sweep") else 1) * medians["plain"] / value for name, value in medians.items()
    }
    print(f"{source.width} x {source.height} pixels, {pipe.defaults.steps} steps, {pipe.dtype}")
    for name, values in seconds.items():
        spread = f"({min(values):.3f} to {max(values):.3f})"
        print(f"{name:30s} {medians[name]:9.3f} s   {spread:22s} {ratios[name]:8.2f} x plain")
    parts = parts_of_a_step(pipe, photo, size)
    for name, value in parts.items():
        print(f"{name:30s} {value:9.3f}")
    return {
        "size": source.size,
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "session_gb": memory and round(memory / GB, 2),
        "step": {name: round(value, 4) for name, value in parts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds at 512 px")
    parser.add_argument("--tiny", action="store_true", help="tiny weights, to try the script on any device")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.tiny:
        print("There is no CUDA device here: nothing measured.")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    sizes, rounds = ([512], 2) if args.quick else (args.sizes, args.rounds)
    pipe = random_pipeline([INSTRUCTION], device, dtype, args.tiny, args.steps)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    tables = [measure(pipe, photo, size, rounds, device) for size in sizes]
    spared = memory_of_a_session(place_sparingly(pipe.to("cpu"), device), photo, sizes[0], device)
    line = {
        "tables": tables,
        "spared_session_gb": spared and round(spared / GB, 2),
        "steps": args.steps,
        "rounds": rounds,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    print_line(line, args.out)


if __name__ == "__main__":
    main()
