"""One step of one edit on a GPU: its time by every way to compute it, and what the floor of an exact one is.

A step is timed alone, six times, one way after the other: no caches, no encoders, no shortcuts.
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

from kontext_slider.base import Conditioning, Velocity, fast_model
from kontext_slider.engine.sampling import offsets_at, plain_velocity
from kontext_slider.engine.speed import FP8, multiplies_fp8
from kontext_slider.images import read_image, working_image

STEP = 1  # any
OURS = {  # fused, dtype, compiled
    "library's layers": (False, None, False),
    "library's layers, compiled": (False, None, True),
    "exact, not compiled": (True, None, False),
    "exact": (True, None, True),
    "fp8": (True, FP8, True),
}
IN_BATCHES = ("exact", "fp8")


class StepTimes:
    """Of an edit in pictures of one size; `batch` frames at once are timed as well, if more than 1."""

    def __init__(self, pipe, photo: Image.Image, instruction: str, size: int, batch: int) -> None:
        self._pipe, self._batch, base = pipe, batch, pipe.base
        source = working_image(read_image(photo), size, 2 * pipe.vae_scale_factor)
        with torch.no_grad():
            text = base.encode_text(instruction, pipe.defaults.max_sequence_length)
            dtype = text.embeds.dtype
            encoded, noise = base.encode_source(source, dtype), base.draw_noise(source.size, 0, dtype)
        self._edit = Conditioning(text, encoded, noise, base.guidance(pipe.defaults.guidance))
        self._noise, self.frame_size = noise.latents, source.size  # (1, L, C)
        self._timesteps = base.schedule(pipe.defaults.steps, self._noise.shape[1]).timesteps

    @torch.no_grad()
    def by_way(self) -> Iterator[tuple[str, float, float]]:
        """(way, milliseconds of one velocity, for one frame, seconds of the first)."""
        noise, edit = self._noise, self._edit
        plain = plain_velocity(self._pipe, edit, self._timesteps)
        yield "plain", *self._timed(lambda: plain(noise, STEP))
        with self._pipe.slider_applied([0.4], edit.text.pooled):
            yield "plain with the slider", *self._timed(lambda: plain(noise, STEP))
        for name, how in OURS.items():
            if how[1] is None or multiplies_fp8(self._pipe.device):
                fast = self._fast(*how)
                for batch in sorted({1, self._batch}) if name in IN_BATCHES else [1]:
                    strengths = torch.linspace(0.1, 0.9, batch).tolist()
                    velocity = fast(strengths)
                    whole, first = self._timed(partial(velocity, noise.repeat(batch, 1, 1), STEP))
                    yield name if batch == 1 else f"{name}, {batch} frames at once", whole / batch, first
                del fast, velocity
        yield "flux-fast", *self._flux_fast(False)

    def flux_fast_in_fp8(self) -> float | None:
        """Milliseconds, of one velocity; None where torchao or the device cannot."""
        can = find_spec("torchao") and multiplies_fp8(self._pipe.device)
        return self._flux_fast(True)[0] if can else None

    @torch.no_grad()
    def _flux_fast(self, fp8: bool) -> tuple[float, float]:
        theirs, base = flux_fast(self._pipe.transformer, fp8), self._pipe.base
        time = self._timesteps[STEP].to(self._noise.dtype) / 1000
        return self._timed(lambda: base.velocity(theirs, self._noise, time, self._edit))

    @torch.no_grad()
    def parts(self) -> dict[str, float]:
        """An exact step's products and attention again, alone; its FLOPs, and what they take at the rate of one large
        product; what a strength needs besides its steps."""
        at_strength = self._fast(True, None, False)([0.4])

        def velocity() -> torch.Tensor:
            return at_strength(self._noise, STEP)

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
            "offsets_ms": self._milliseconds(lambda: offsets_at(self._pipe, self._edit, [0.4])),
            "decode_ms": self._milliseconds(lambda: self._pipe.base.decode(self._noise, self.frame_size)),
        }

    def _fast(self, *how) -> Callable[[list[float]], Velocity]:
        """Strengths to the velocity of our faster model."""
        model = fast_model(self._pipe.transformer, *how)
        assert model is not None
        edit = model.open(self._edit, self._timesteps, "text_stream")
        return lambda strengths: edit.velocity_at(offsets_at(self._pipe, self._edit, strengths))

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


def flux_fast(transformer: FluxTransformer2DModel, fp8: bool) -> FluxTransformer2DModel:
    """A copy without the slider, its projections fused, its blocks compiled; in fp8 by torchao."""
    theirs = copy.deepcopy(transformer)
    theirs.unload_lora()
    theirs.fuse_qkv_projections()
    if fp8:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, quantize_

        blocks = (*theirs.transformer_blocks, *theirs.single_transformer_blocks)
        for block in blocks:
            quantize_(block, Float8DynamicActivationFloat8WeightConfig())
    theirs.compile_repeated_blocks(fullgraph=True)
    return theirs
