"""One step of one edit on a GPU: its time by every way to compute it, and what the floor of an exact one is.

A step is timed alone, six times, one way after the other: no caches, no encoders, nothing that frames could tell.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch
from diffusers import FluxTransformer2DModel
from floor import ATTENTION, LINEAR, products_of
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from kontext_slider import SliderEngine
from kontext_slider.encoding import decode
from kontext_slider.engine.denoise import plain_velocity, prepare_scheduler
from kontext_slider.engine.denoiser import plain_denoiser, prepared_denoiser
from kontext_slider.engine.layers import EIGHT_BITS
from kontext_slider.engine.prepared import Prepared
from kontext_slider.engine.speed import multiplies_eight_bits
from kontext_slider.engine.weights import Weights

STEP = 1  # any
OURS = {  # joined, dtype, compiled
    "library's layers": (False, None, False),
    "library's layers, compiled": (False, None, True),
    "exact, not compiled": (True, None, False),
    "exact": (True, None, True),
    "eight bits": (True, EIGHT_BITS, True),
}
IN_BATCHES = ("exact", "eight bits")


class StepTimes:
    """Of an edit in pictures of one size; `batch` frames at once are timed as well, if more than 1."""

    def __init__(self, pipe, photo: Image.Image, instruction: str, size: int, batch: int) -> None:
        session = SliderEngine(pipe).open(photo, instruction, size=size)
        self._batch = batch
        self._pipe, self._renderer, self.frame_size = pipe, session._check_open(), session.size
        self._edit, self._noise = self._renderer._edit, self._renderer._edit.noise  # (1, L, C)
        self._timesteps = prepare_scheduler(pipe, session.steps, self._noise.shape[1], pipe.device).timesteps

    @torch.no_grad()
    def by_way(self) -> Iterator[tuple[str, float, float]]:
        """(way, milliseconds of one velocity, for one frame, seconds of the first)."""
        transformer, noise, edit = self._pipe.transformer, self._noise, self._edit
        plain = plain_velocity(transformer, edit, self._timesteps)
        yield "plain", *self._timed(lambda: plain(noise, STEP))
        slider = plain_denoiser(self._pipe, edit, self._timesteps, [0.4])
        with slider.applied():
            yield "plain with the slider", *self._timed(lambda: slider.velocity(noise, STEP))
        for name, how in OURS.items():
            if how[1] is None or multiplies_eight_bits(self._pipe.device):
                prepared = self._prepared(*how)
                for batch in sorted({1, self._batch}) if name in IN_BATCHES else [1]:
                    strengths = torch.linspace(0.1, 0.9, batch).tolist()
                    denoiser = prepared_denoiser(self._pipe, edit, prepared, strengths)
                    latents = noise.repeat(batch, 1, 1)
                    with denoiser.applied():
                        whole, first = self._timed(partial(denoiser.velocity, latents, STEP))
                    yield name if batch == 1 else f"{name}, {batch} frames at once", whole / batch, first
                del prepared, denoiser
        yield "flux-fast", *self._flux_fast(False)

    def flux_fast_in_eight_bits(self) -> float | None:
        """Milliseconds, of one velocity; None where torchao or the device cannot."""
        can = find_spec("torchao") and multiplies_eight_bits(self._pipe.device)
        return self._flux_fast(True)[0] if can else None

    @torch.no_grad()
    def _flux_fast(self, eight_bits: bool) -> tuple[float, float]:
        theirs = plain_velocity(flux_fast(self._pipe.transformer, eight_bits), self._edit, self._timesteps)
        return self._timed(lambda: theirs(self._noise, STEP))

    @torch.no_grad()
    def parts(self) -> dict[str, float]:
        """An exact step's products and attention again, alone; its FLOPs, and what they take at the rate of one large
        product; what a strength needs besides its steps."""
        denoiser = prepared_denoiser(self._pipe, self._edit, self._prepared(True, None, False), [0.4])

        def velocity() -> torch.Tensor:
            return denoiser.velocity(self._noise, STEP)

        with FlopCounterMode(display=False) as counter:
            velocity()
        flops: Counter[str] = Counter()
        for operation, count in counter.get_flop_counts()["Global"].items():
            flops["attention" if "attention" in str(operation) else "products"] += count
        found = {f"{name}_tflop": count / 1e12 for name, count in flops.items()}
        for name, operations in {"products": LINEAR, "attention": ATTENTION}.items():
            again = products_of(velocity, operations)
            found[f"{name}_ms"] = self._milliseconds(partial(again, 0))
            del again
        rate = self._product_rate()
        return found | {
            "measured_rate_tflops": rate / 1e12,
            "floor_ms": 1000 * flops.total() / rate,
            "offsets_ms": self._milliseconds(lambda: self._renderer.offsets_at([0.4])),
            "decode_ms": self._milliseconds(lambda: decode(self._pipe, self._noise, self.frame_size)),
        }

    def _prepared(self, *how) -> Prepared:
        transformer = self._pipe.transformer
        return Prepared.of(transformer, Weights.of(transformer, *how), self._edit, self._timesteps, "text_stream")

    def _product_rate(self) -> float:
        """FLOPs in a second of a product of large square matrices."""
        device, dtype = self._pipe.device, self._pipe.dtype
        side = 8192 if device.type == "cuda" else 512
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        return 2 * side**3 / (self._milliseconds(lambda: a @ b) / 1000)

    def _milliseconds(self, ask: Callable[[], object]) -> float:
        return self._timed(ask)[0]

    def _timed(self, ask: Callable[[], object], times: int = 6) -> tuple[float, float]:
        """Milliseconds, the median of some calls after two that do not count, and seconds of the first, which may
        compile."""
        seconds = []
        for _ in range(times + 2):
            start = time.perf_counter()
            ask()
            if self._pipe.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return 1000 * statistics.median(seconds[2:]), seconds[0]


def flux_fast(transformer: FluxTransformer2DModel, eight_bits: bool) -> FluxTransformer2DModel:
    """A copy without the slider, its projections joined, its blocks compiled; in eight bits by torchao."""
    theirs = copy.deepcopy(transformer)
    theirs.unload_lora()
    theirs.fuse_qkv_projections()
    if eight_bits:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_

        blocks = (*theirs.transformer_blocks, *theirs.single_transformer_blocks)
        for block in blocks:
            quantize_(block, Float8DynamicActivationFloat8WeightConfig())
    theirs.compile_repeated_blocks(fullgraph=True)
    return theirs
