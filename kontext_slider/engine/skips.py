"""Steps that are not computed: chosen once, on the first frame of an edit, and left out of all that follow.

From step to step a velocity changes little, and what it changes goes on for a while. The first frame decides on its way
which of its steps to compute (`first_steps.py`). Then one sees which velocities could have been told from the two
computed before by a straight line over the noise level, and what the frame would have lost. The fewest steps that lose
little enough are the plan; frames at other strengths take nearly the same way and are computed at these steps alone. No
decision depends on their data. (TeaCache, arXiv 2411.19108, and First-Block-Cache decide anew in every step of every
picture.)

Legend: B frames, L target tokens, C channels of a packed token, R steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .denoise import Velocity
from .first_steps import AdaptiveSteps, Floats, extended, filled, slope

SAFETY = 0.9  # of the bound, as what the first frame skipped is known from its neighbours alone
MOST_STEPS = 100  # the search for a plan takes .6 s then, and eight times as much for twice the steps


class Skips:
    """The plan of one edit.

    bound: root mean square of latents that the frame which makes the plan may lose by it; None: every step is computed.
    """

    def __init__(self, bound: float | None) -> None:
        self.plan: tuple[int, ...] | None = None
        self._bound = bound

    def are_wanted(self, steps: int) -> bool:
        """Whether there is no plan of so many steps yet, and there should be. Of two, both are always computed."""
        return self._bound is not None and self.plan is None and 2 < steps <= MOST_STEPS

    def skipping(self, velocity: Velocity, sigmas: Tensor, is_whole: bool) -> Velocity:
        """`velocity`, asked at the plan's steps alone. Where there is no plan yet, a frame that is computed from the
        noise with all its tokens (`is_whole`) makes it, if it is wanted. sigmas: noise levels, (R + 1,)."""
        makes_plan = is_whole and self.are_wanted(len(sigmas) - 1)
        if self._bound is None or (self.plan is None and not makes_plan):
            return velocity
        levels = sigmas.double().cpu().numpy()
        if self.plan is None:
            return self._adaptive(velocity, levels, self._bound)
        return replayed(velocity, self.plan, levels)

    def _adaptive(self, velocity: Velocity, levels: Floats, bound: float) -> Velocity:
        def plan(computed: list[int], velocities: list[Tensor]) -> None:
            self.plan = fewest_steps(filled(products(velocities), levels, computed), levels, SAFETY * bound)

        return AdaptiveSteps(velocity, levels, bound, plan)


def replayed(velocity: Velocity, plan: tuple[int, ...], levels: Floats) -> Velocity:
    """`velocity` at the steps of the plan and at the first that it is asked for; elsewhere, told from those before."""
    known: list[tuple[int, Tensor]] = []

    def told(latents: Tensor, step: int) -> Tensor:
        if step in plan or not known:
            known[:] = [*known[-1:], (step, velocity(latents, step))]
            return known[-1][1]
        (before, earlier), (last, latest) = known[0], known[-1]
        return extended(earlier, latest, slope(levels, before, last)[step])

    return told


def products(velocities: list[Tensor]) -> Floats:
    """Mean products of all pairs of R velocities (B or 1, L, C), (R, R)."""
    rows = torch.stack([row.float().expand_as(velocities[-1]).flatten() for row in velocities])
    return (rows @ rows.T / rows.shape[1]).double().cpu().numpy()


def fewest_steps(products: Floats, levels: Floats, bound: float) -> tuple[int, ...]:
    """The numbers of the fewest steps to compute, the first and the last among them, of those that lose least.

    products: of velocities (`products`). levels: noise levels, (R + 1,). bound: root mean square of latents; what the
    steps between lose adds up to no more."""
    last = len(products) - 1
    ways: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(0, 0): (0.0, (0,))}  # by the two newest steps
    while not any(newest == last for _, newest in ways):
        longer: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
        for (before, newest), (lost, way) in ways.items():
            for step, more in enumerate(losses(products, levels, before, newest)[newest + 1 :], newest + 1):
                if lost + more <= bound and (lost + more, way) < longer.get((newest, step), (np.inf, ())):
                    longer[newest, step] = lost + more, (*way, step)
        ways = longer
    return min(way for (_, newest), way in ways.items() if newest == last)[1]


def losses(products: Floats, levels: Floats, before: int, last: int) -> Floats:
    """What is lost until each step is computed anew, (R,), by telling the steps between from steps `before` and `last`:
    the sum of their velocities' errors, each times its step's length."""
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
