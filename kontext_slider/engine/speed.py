"""The speeds: one table of presets, by device.

"exact" gives the plain pipeline's pictures within a rounding. The others take shortcuts (`shortcuts/`), which have
bounds of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from ..edit import SPEED_NAMES
from ..errors import InvalidInput

if TYPE_CHECKING:
    from .shortcuts import Bounds

FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Speed:
    """One way to compute frames.

    dtype: that copies of the blocks' layers multiply in, where there is room for them and the processor does it faster;
        None for the model's own.
    compiled: torch compiles the blocks, where there is a compiler and nobody says otherwise.
    batch: most strengths of a sweep that are denoised at once; fewer for a while after memory ran short.
    shortcuts: the error that approximate frames may have; None: frames are exact.
    """

    dtype: torch.dtype | None = None
    compiled: bool = False
    batch: int = 1
    shortcuts: Bounds | None = None

    def when(self, compiled: bool) -> Speed:
        """The same with a compiler or without: fp8 without one is slower than the model's own dtype, because every
        token is measured first."""
        keeps_dtype = compiled or self.dtype is not FP8
        return replace(self, compiled=compiled, dtype=self.dtype if keeps_dtype else None)


# A CPU is no faster on several frames at once than on one after the other (its caches are full). Narrower products make
# strips rougher, as every strength is rounded another way: only fastest takes them. fp8 needs a compiler. Without one,
# compiling a small model takes half a minute and gains that back after two minutes of frames, so it has to be asked for
# (benchmarks/LOG.md).
SPEEDS: dict[str, dict[str, Speed]] = {
    "gpu": dict.fromkeys(SPEED_NAMES, Speed(batch=8)),
    "gpu, large model": {
        "exact": Speed(batch=8),
        "fast": Speed(batch=8),
        "fastest": Speed(batch=8, compiled=True, dtype=FP8),
    },
    "cpu": {"exact": Speed(), "fast": Speed(), "fastest": Speed(dtype=torch.bfloat16)},
}
LARGE = 1_000_000_000  # parameters of a transformer from which on a model is large


def find_speed(name: str, device: torch.device, num_parameters: int = 0) -> Speed:
    """The preset `name` for a device and a transformer of so many parameters; its dtype is the model's own where the
    device does not multiply in it.

    Raises InvalidInput for a name that is not there."""
    if name not in SPEED_NAMES:
        raise InvalidInput(f"The speed is one of {', '.join(SPEED_NAMES)}, not {name!r}.")
    if device.type == "cpu":
        kind, multiplies = "cpu", multiplies_bfloat16()
    else:
        kind, multiplies = ("gpu, large model" if num_parameters >= LARGE else "gpu"), multiplies_fp8(device)
    speed = preset(kind, name)
    return speed if multiplies else replace(speed, dtype=None)


def preset(kind: str, name: str) -> Speed:
    """The row of a kind of device, with the bounds of its shortcuts."""
    return replace(SPEEDS[kind][name], shortcuts=_bounds(name))


def _bounds(name: str) -> Bounds | None:
    if name == "exact":
        return None
    try:
        from .shortcuts import BOUNDS
    except ModuleNotFoundError as error:
        raise InvalidInput(f"The speed {name!r} needs kontext_slider/engine/shortcuts, which is not there.") from error
    return BOUNDS[name]


def multiplies_fp8(device: torch.device) -> bool:
    """Whether a GPU has products of float8, and torchao is there to use them."""
    if find_spec("torchao") is None:
        return False
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; others emulate it, slowly."""
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))
