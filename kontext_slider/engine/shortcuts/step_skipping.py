"""Step skipping: some velocities are extrapolated and not computed.

From step to step a velocity changes little, and what it changes goes on for a while. The first frame of an edit chooses
its steps as it goes (`AdaptiveSteps`): every computed velocity is compared with the straight line through the two
before it, which gives the curvature, and so the error at the steps that follow; these are skipped for as long as the
sum of their errors keeps to the bound (the step size control of embedded Runge-Kutta methods: Hairer, Norsett and
Wanner, 1993, II.4). From its velocities the schedule is made that all other frames of the edit follow: the fewest steps
whose errors add up to the bound. No later decision depends on data. (TeaCache, arXiv 2411.19108, and First-Block-Cache
decide anew in every step of every picture.)

Legend: B frames, L target tokens, C channels of a packed token, R steps, K of them computed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...base import Velocity

Floats = NDArray[np.float64]

DECAY = 0.5  # of a curvature, at every computed step: one small error does not make a straight line
NODES = 4  # computed steps that a skipped one is interpolated from, once all are known
SAFETY = 0.9  # of the bound, as the skipped steps of the first frame are known from their neighbours alone
MOST_STEPS = 100  # the search for a schedule takes .6 s then, and eight times as much for twice the steps


class StepSkipping:
    """The schedule of one edit.

    bound: root mean square error of latents that a frame may have from it; None: every step is computed.
    """

    def __init__(self, bound: float | None) -> None:
        self.schedule: tuple[int, ...] | None = None
        self._bound = bound

    def needs_schedule(self, steps: int) -> bool:
        """Whether there is no schedule of so many steps yet, and there should be. Of two, both are always computed."""
        return self._bound is not None and self.schedule is None and 2 < steps <= MOST_STEPS

    def wrap(self, velocity: Velocity, sigmas: Tensor, from_noise: bool) -> Velocity:
        """`velocity`, computed at the schedule's steps alone. Where there is no schedule yet, a frame that starts at
        the noise makes it. sigmas: noise levels, (R + 1,)."""
        makes_schedule = from_noise and self.needs_schedule(len(sigmas) - 1)
        if self._bound is None or (self.schedule is None and not makes_schedule):
            return velocity
        levels = sigmas.double().cpu().numpy()
        if self.schedule is None:
            return self._adaptive(velocity, levels, self._bound)
        return replayed(velocity, self.schedule, levels)

    def _adaptive(self, velocity: Velocity, levels: Floats, bound: float) -> Velocity:
        def make_schedule(computed: list[int], velocities: list[Tensor]) -> None:
            known = filled(products(velocities), levels, computed)
            self.schedule = fewest_steps(known, levels, SAFETY * bound)

        return AdaptiveSteps(velocity, levels, bound, make_schedule)


def replayed(velocity: Velocity, schedule: tuple[int, ...], levels: Floats) -> Velocity:
    """`velocity` at the steps of the schedule and at its first call; elsewhere, extrapolated from the last two."""
    known: list[tuple[int, Tensor]] = []

    def velocity_at(latents: Tensor, step: int) -> Tensor:
        if step in schedule or not known:
            known[:] = [*known[-1:], (step, velocity(latents, step))]
            return known[-1][1]
        (before, earlier), (last, latest) = known[0], known[-1]
        return extended(earlier, latest, slope(levels, before, last)[step])

    return velocity_at


def products(velocities: list[Tensor]) -> Floats:
    """Mean products of all pairs of R velocities (B or 1, L, C), (R, R)."""
    rows = torch.stack([row.float().expand_as(velocities[-1]).flatten() for row in velocities])
    return (rows @ rows.T / rows.shape[1]).double().cpu().numpy()


def fewest_steps(products: Floats, levels: Floats, bound: float) -> tuple[int, ...]:
    """The numbers of the fewest steps to compute, the first and the last among them, with the smallest error.

    products: of velocities (`products`). levels: noise levels, (R + 1,). bound: root mean square of latents that the
    errors of the steps between may add up to."""
    last = len(products) - 1
    ways: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(0, 0): (0.0, (0,))}  # by the two newest steps
    while not any(newest == last for _, newest in ways):
        longer: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
        for (before, newest), (error, way) in ways.items():
            for step, more in enumerate(skipping_errors(products, levels, before, newest)[newest + 1 :], newest + 1):
                if error + more <= bound and (error + more, way) < longer.get((newest, step), (np.inf, ())):
                    longer[newest, step] = error + more, (*way, step)
        ways = longer
    return min(way for (_, newest), way in ways.items() if newest == last)[1]


def skipping_errors(products: Floats, levels: Floats, before: int, last: int) -> Floats:
    """The error until each step is computed anew, (R,), when the steps between are extrapolated from steps `before`
    and `last`: the sum of their velocities' errors, each times its step's length."""
    on = slope(levels, before, last)
    squares = (
        products.diagonal()
        + (1 + on) ** 2 * products[last, last]
        + on**2 * products[before, before]
        - 2 * (1 + on) * products[last]
        + 2 * on * products[before]
        - 2 * on * (1 + on) * products[before, last]
    )
    errors = np.sqrt(squares.clip(0)) * np.abs(np.diff(levels))
    errors[: last + 1] = 0
    return np.concatenate([[0.0], errors.cumsum()[:-1]])


class AdaptiveSteps:
    """A velocity that computes some of a frame's steps and extends a line through the last two to the others.

    levels: noise levels, (R + 1,). bound: root mean square error of latents that the skipped steps may cause.
    on_end: called with the computed steps and their velocities once the last step is computed."""

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
        self._next, self._curvature, self._error = 0, 0.0, 0.0

    def __call__(self, latents: Tensor, step: int) -> Tensor:
        """(B, L, C); steps come one after the other, from the first."""
        if step < self._next:
            return self._extended(step)
        velocity = self._velocity(latents, step)
        if len(self._steps) > 1:
            self._measure_curvature(step, velocity)
        self._steps.append(step)
        self._velocities.append(velocity)
        self._next = self._choose_next()
        if step == len(self._levels) - 2:
            self._on_end(self._steps, self._velocities)
        return velocity

    def _extended(self, step: int) -> Tensor:
        earlier, latest = self._velocities[-2:]
        return extended(earlier, latest, slope(self._levels, *self._steps[-2:])[step])

    def _measure_curvature(self, step: int, velocity: Tensor) -> None:
        """By the error of the line at this step."""
        missed = float((velocity - self._extended(step)).float().square().mean().sqrt())
        self._curvature = max(missed / max(self._distances(step), 1e-12), DECAY * self._curvature)

    def _distances(self, step: int) -> float:
        """From the last two computed steps, multiplied: the error of a line grows with that."""
        return float(np.prod(np.abs(self._levels[self._steps[-2:]] - self._levels[step])))

    def _choose_next(self) -> int:
        step, last = self._steps[-1] + 1, len(self._levels) - 2
        if len(self._steps) < 3:
            return min(step, last)
        way = self._levels[0] - self._levels[-2]
        while step < last:
            error = self._curvature * self._distances(step) * abs(self._levels[step + 1] - self._levels[step])
            if self._error + error > self._bound * (self._levels[0] - self._levels[step + 1]) / way:
                break
            self._error += error
            step += 1
        return step


def slope(levels: Floats, before: int, last: int) -> Floats:
    """How far each step lies beyond the last of two steps, in units of their distance, (R,); zeros if they are one."""
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
    """The weights of values at `places` (K,) in their polynomial's value at `place`, (K,)."""
    same = np.eye(len(places), dtype=bool)
    between = np.where(same, 1.0, places[:, None] - places)
    return np.where(same, 1.0, (place - places) / between).prod(axis=1)
