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


@dataclass(frozen=True)
class Speed:
    """One way to compute frames.

    joined: the blocks' layers are copied, joined and merged with the slider's LoRA (`weights.py`).
    dtype: of the blocks, where the processor multiplies it faster; None for the model's own.
    guess_error: root mean square of latents up to which a guess is good enough: frames start as late in their steps as
        what came before is estimated to be as near (`late_start.py`); None: never.
    guess_reach: of strength, the widest gap that is guessed across.
    skip_error: root mean square of latents that an edit's first frame may lose by steps which later frames skip
        (`skips.py`); None: none is skipped.
    between: dB of PSNR from which on a whole frame is interpolated where that is estimated to be as near to the truth
        (`between.py`); None: never.
    reach: of strength, the widest gap that frames are interpolated across.
    hand_reach: the same for a frame that a hand waits for, up to strength 1 of a slider with a `degree` (projector.py):
        without kinks a guess knows how wrong it is. What no hand waits for stays nearer to the exact frame. A frame
        made for a hand stays that strength's frame, in strips too.
    nodes: finished frames at least that either is told from; with five, sweeps keep most of their detours
        (benchmarks/LOG.md).
    batch: most strengths of a sweep that are denoised at once; halved where memory is short.
    """

    joined: bool
    dtype: torch.dtype | None = None
    guess_error: float | None = None
    guess_reach: float = 0.5
    skip_error: float | None = None
    between: float | None = None
    reach: float = 0.1
    hand_reach: float = 0.5
    nodes: int = 5
    batch: int = 1

    @property
    def learns(self) -> bool:
        """Whether frames tell of frames between them, so that coarse ones should come first."""
        return any(bound is not None for bound in (self.guess_error, self.between))


# A CPU is no faster on several frames at once than on one after the other (its caches are full), and has the memory
# for copies. A GPU that holds the 12-billion model has none to spare, and hides the small products of a LoRA.
_EXACT = Speed(joined=False, batch=8)
_FAST = replace(_EXACT, guess_error=0.003, skip_error=0.03, between=57.0)
_FASTEST = replace(_EXACT, guess_error=0.025, skip_error=0.1, between=38.0, reach=0.5, nodes=3)
SPEEDS: dict[str, dict[str, Speed]] = {
    "gpu": {"exact": _EXACT, "fast": _FAST, "fastest": _FASTEST},
    "cpu": {
        "exact": replace(_EXACT, joined=True, batch=1),
        "fast": replace(_FAST, joined=True, batch=1, dtype=torch.bfloat16),
        "fastest": replace(_FASTEST, joined=True, batch=1, dtype=torch.bfloat16),
    },
}
NAMES = tuple(SPEEDS["cpu"])


def find_speed(name: str, device: torch.device) -> Speed:
    """The preset `name` for a device; on a CPU without bfloat16 arithmetic its dtype is the model's own.

    Raises InvalidInput for a name that is not there."""
    if name not in NAMES:
        raise InvalidInput(f"The speed is one of {', '.join(NAMES)}, not {name!r}.")
    on_cpu = device.type == "cpu"
    speed = SPEEDS["cpu" if on_cpu else "gpu"][name]
    if on_cpu and not multiplies_bfloat16():
        speed = replace(speed, dtype=None)
    return speed


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it; others emulate it, slowly."""
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"))
