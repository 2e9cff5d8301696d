"""How frames are computed: one table of presets, by device.

"exact" gives the plain pipeline's pictures within a rounding. "fast" and "fastest" may be off by what was measured on
held-out edits and photographs (`benchmarks/bench_fidelity.py`): all frames of an edit together have 40 dB of PSNR or
more to the exact ones, and 32 or more. A single frame may have less, and interpolated sweeps are not as smooth or
rough as exact ones, so measure smoothness at "exact".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..errors import InvalidInput
from .layers import EIGHT_BITS


@dataclass(frozen=True)
class Speed:
    """One way to compute frames.

    dtype: that copies of the blocks' layers multiply in, where there is room for them and the processor does it faster
        (`layers.py`); None for the model's own.
    compiled: torch compiles the blocks, where there is a compiler and nobody says otherwise.
    guess_error: root mean square of latents up to which a guess is good enough: frames start as late in their steps as
        what came before is estimated to be as near (`late_start.py`); None: never.
    guess_reach: of strength, the widest gap that is guessed across.
    skip_error: root mean square of latents that a frame may lose by the steps which it skips (`first_steps.py` for an
        edit's first frame, `skips.py` for the others); None: none is skipped.
    between: dB of PSNR from which on a whole frame is interpolated where every part of it is estimated to be as near to
        the truth (`between.py`); None: never.
    reach: of strength, the widest gap that frames are interpolated across.
    hand_reach: the same for a frame that a hand waits for, up to strength 1 of a slider with a `degree` (projector.py):
        without kinks a guess knows how wrong it is. What no hand waits for stays nearer to the exact frame. A frame
        made for a hand stays that strength's frame, in strips too.
    nodes: finished frames at least that either is told from; with five, sweeps keep most of their detours
        (benchmarks/LOG.md).
    leading: frames at the start of a sweep that are rendered before the coarse ones, so that they are there soon: as
        many as cost no more in all.
    batch: most strengths of a sweep that are denoised at once; fewer for a while after memory ran short
        (`batch_size.py`).
    """

    dtype: torch.dtype | None = None
    compiled: bool = False
    guess_error: float | None = None
    guess_reach: float = 0.5
    skip_error: float | None = None
    between: float | None = None
    reach: float = 0.1
    hand_reach: float = 0.5
    nodes: int = 5
    leading: int = 2
    batch: int = 1

    @property
    def learns(self) -> bool:
        """Whether frames tell of frames between them, so that coarse ones should come first."""
        return any(bound is not None for bound in (self.guess_error, self.between))

    def when(self, compiled: bool) -> Speed:
        """The same with a compiler or without, where eight bits would be slower than none: every token is measured."""
        narrow = compiled or self.dtype is not EIGHT_BITS
        return replace(self, compiled=compiled, dtype=self.dtype if narrow else None)


# A CPU is no faster on several frames at once than on one after the other (its caches are full). Narrower products make
# strips rougher, as every strength is rounded another way: only fastest takes them. Eight bits need a compiler; others
# would wait half a minute for it and have that back after two minutes of frames: it has to be asked for
# (benchmarks/LOG.md).
_EXACT = Speed(batch=8)
_FAST = replace(_EXACT, guess_error=0.003, skip_error=0.03, between=54.0)
_FASTEST = replace(_EXACT, guess_error=0.025, skip_error=0.1, between=34.0, reach=0.5, nodes=3, leading=1)
SPEEDS: dict[str, dict[str, Speed]] = {
    "gpu": {"exact": _EXACT, "fast": _FAST, "fastest": _FASTEST},
    "gpu, large model": {
        "exact": _EXACT,
        "fast": _FAST,
        "fastest": replace(_FASTEST, compiled=True, dtype=EIGHT_BITS),
    },
    "cpu": {
        "exact": replace(_EXACT, batch=1),
        "fast": replace(_FAST, batch=1),
        "fastest": replace(_FASTEST, batch=1, dtype=torch.bfloat16),
    },
}
NAMES = tuple(SPEEDS["cpu"])
LARGE = 1_000_000_000  # parameters of a transformer from which on a model is large


def find_speed(name: str, device: torch.device, num_parameters: int = 0) -> Speed:
    """The preset `name` for a device and a transformer of so many parameters; its dtype is the model's own where the
    device does not multiply in it.

    Raises InvalidInput for a name that is not there."""
    if name not in NAMES:
        raise InvalidInput(f"The speed is one of {', '.join(NAMES)}, not {name!r}.")
    if device.type == "cpu":
        kind, multiplies = "cpu", multiplies_bfloat16()
    else:
        kind = "gpu, large model" if num_parameters >= LARGE else "gpu"
        multiplies = multiplies_eight_bits(device)
    speed = SPEEDS[kind][name]
    return speed if multiplies else replace(speed, dtype=None)


def multiplies_eight_bits(device: torch.device) -> bool:
    """Whether a GPU has products of float8."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; others emulate it, slowly."""
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))
