"""Steps of an edit's first frame: which to compute is decided on the way, from what the steps before show.

The first three steps are computed. From then on every computed velocity is compared with the straight line through the
two before it. What the line missed gives the curvature of the way, and so what the line will miss at the steps that
follow: these are skipped for as long as the sum of what they lose keeps to the bound, in proportion to the way that is
done (the step size control of embedded Runge-Kutta methods: Hairer, Norsett and Wanner, 1993, II.4).

Legend: B frames, L target tokens, C channels of a packed token, R steps, K of them computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .denoise import Velocity

Floats = NDArray[np.float64]
FORGETTING = 0.5  # of a curvature, at every computed step: one small miss does not make a way straight
NODES = 4  # computed steps that tell one which was skipped, once all are known


class AdaptiveSteps:
    """A velocity that computes some of a frame's steps and extends a line through the last two to the others.

    levels: noise levels, (R + 1,). bound: root mean square of latents that the skipped steps may lose.
    on_end: told the computed steps and their velocities once the last step is computed."""

    def __init__(
        self,
        velocity: Velocity,
        levels: Floats,
        bound: float,
        on_end: Callable[[list[int], list[Tensor]], None],
    ) -> None:
        self._velocity, self._levels, self._bound, self._on_end = velocity, levels, bound, on_end
        self._steps: list[int] = []
        self._velocities: list[Tensor] = []
        self._next, self._curvature, self._lost = 0, 0.0, 0.0

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        """(B, L, C); steps come one after the other, from the first."""
        if step < self._next:
            return self._extended(step)
        velocity = self._velocity(latents, step)
        if len(self._steps) > 1:
            self._look_at(step, velocity)
        self._steps.append(step)
        self._velocities.append(velocity)
        self._next = self._choose_next()
        if step == len(self._levels) - 2:
            self._on_end(self._steps, self._velocities)
        return velocity

    def _extended(self, step: int) -> Tensor:
        earlier, latest = self._velocities[-2:]
        return extended(earlier, latest, slope(self._levels, *self._steps[-2:])[step])

    def _look_at(self, step: int, velocity: Tensor) -> None:
        """Measure the curvature by what the line missed here."""
        missed = float((velocity - self._extended(step)).float().square().mean().sqrt())
        self._curvature = max(missed / max(self._distances(step), 1e-12), FORGETTING * self._curvature)

    def _distances(self, step: int) -> float:
        """From the last two computed steps, multiplied: what a line misses grows with that."""
        return float(np.prod(np.abs(self._levels[self._steps[-2:]] - self._levels[step])))

    def _choose_next(self) -> int:
        step, last = self._steps[-1] + 1, len(self._levels) - 2
        if len(self._steps) < 3:
            return min(step, last)
        way = self._levels[0] - self._levels[-2]
        while step < last:
            loss = self._curvature * self._distances(step) * abs(self._levels[step + 1] - self._levels[step])
            if self._lost + loss > self._bound * (self._levels[0] - self._levels[step + 1]) / way:
                break
            self._lost += loss
            step += 1
        return step


def slope(levels: Floats, before: int, last: int) -> Floats:
    """How far the straight line through two steps has gone on at each step, in their distance, (R,); zeros, so that the
    last one stays, if they are one."""
    way = levels[:-1] - levels[last]
    return way / (levels[last] - levels[before]) if before < last else np.zeros_like(way)


def extended(earlier: Tensor, latest: Tensor, slope: float) -> Tensor:
    """A line through two velocities, `slope` times their distance beyond the latest."""
    return latest + float(slope) * (latest - earlier)


def filled(products: Floats, levels: Floats, computed: list[int]) -> Floats:
    """Mean products of all pairs of R velocities, (R, R), from those of the computed ones, (K, K): a skipped one is the
    polynomial of the noise level through the nearest computed ones."""
    places = levels[computed]
    weights = np.zeros((len(levels) - 1, len(computed)))
    for row, level in zip(weights, levels[:-1], strict=True):
        near = np.argsort(np.abs(places - level), kind="stable")[:NODES]
        row[near] = lagrange(places[near], level)
    return weights @ products @ weights.T


def lagrange(places: Floats, place: float) -> Floats:
    """What values at `places` (K,) count in their polynomial's value at `place`, (K,)."""
    same = np.eye(len(places), dtype=bool)
    between = np.where(same, 1.0, places[:, None] - places)
    return np.where(same, 1.0, (place - places) / between).prod(axis=1)
