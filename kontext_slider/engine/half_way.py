"""Where the frames of an edit are after half of their steps, and where another frame would be.

All strengths start from one noise, and what half of the steps make of it moves smoothly along the slider: between near
neighbours it is a polynomial of the strength, latent by latent. A frame that starts there costs the other half of its
steps, which see its own strength and repair most of what the polynomial missed. (Interpolated *pictures*, `between.py`,
cost nothing and are not repaired.) What was missed is estimated by leaving one neighbour out, and where that is too
much the frame starts from the noise.

Legend: B frames, L target tokens, C channels of a packed token.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .between import lagrange, neighbours
from .speed import Speed
from .trail import Trail


class HalfWay:
    """The latents of one edit before step number `step`, by strength.

    speed: how wide a gap, and how unsure a guess, is too much (`guess_reach`, `guess_error`)."""

    def __init__(self, trail: Trail, steps: int, speed: Speed) -> None:
        self.step = steps // 2
        self._trail, self._speed = trail, speed
        self._strengths: set[float] = set()

    def keep(self, strengths: Sequence[float], latents: Tensor) -> None:
        """Remember where frames are, (B, L, C), that came here from the noise."""
        if self.step and self._speed.guess_error is not None:
            self._trail.put(strengths, self.step, latents)
            self._strengths.update(strengths)

    def guess(self, strength: float) -> Tensor | None:
        """Where the frame at `strength` would be, (1, L, C); None where that cannot be told well enough."""
        near = neighbours(tuple(self._strengths), strength, self._speed.guess_reach)
        rows = [row for other in near if (row := self._trail.get(other, self.step)) is not None]
        if self._speed.guess_error is None or not near or len(rows) < len(near):
            return None
        best, other = _interpolated(near, rows, strength), _interpolated(near[:-1], rows[:-1], strength)
        return best if float((best - other).float().square().mean().sqrt()) <= self._speed.guess_error else None


def _interpolated(nodes: Sequence[float], rows: Sequence[Tensor], strength: float) -> Tensor:
    parts = [float(weight) * row for weight, row in zip(lagrange(nodes, strength), rows, strict=True)]
    return sum(parts[1:], parts[0])
