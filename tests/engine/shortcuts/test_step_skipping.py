"""Step skipping: which steps, what is extrapolated in their place, and that exact sessions skip none."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from kontext_slider.engine import SliderEngine
from kontext_slider.engine.queue import BatchSize
from kontext_slider.engine.shortcuts import Bounds
from kontext_slider.engine.shortcuts.step_skipping import (
    MOST_STEPS,
    AdaptiveSteps,
    StepSkipping,
    fewest_steps,
    filled,
    products,
    replayed,
)
from tests.engine.helpers import note_velocities
from tests.tiny import INSTRUCTION, tiny_image

LEVELS = np.array([1.0, 0.9, 0.75, 0.6, 0.4, 0.25, 0.1, 0.0])  # of seven steps
SHAPE = (1, 3, 2)


def velocities(*numbers: float) -> list[torch.Tensor]:
    return [torch.full(SHAPE, float(number)) for number in numbers]


def lost(row: list[torch.Tensor], plan: tuple[int, ...]) -> float:
    """The error of the steps outside the schedule, each extrapolated from the two computed before it."""
    asked = replayed(lambda _, step: row[step], plan, LEVELS)
    misses = [asked(row[0], step) - row[step] for step in range(len(row))]
    errors = [float(miss.square().mean().sqrt()) for miss in misses]
    return float(np.dot(errors, -np.diff(LEVELS)))


def test_a_straight_line_is_extrapolated_and_a_corner_is_computed():
    """Noise levels taken for step numbers, or a line that runs on over a corner."""
    straight = velocities(*(2 * level + 1 for level in LEVELS[:-1]))
    assert fewest_steps(products(straight), LEVELS, 1e-3) == (0, 1, 6)
    corner = velocities(*(max(level, 0.6) for level in LEVELS[:-1]))
    plan = fewest_steps(products(corner), LEVELS, 1e-3)
    assert len(plan) == 5 and lost(corner, plan) < 1e-3 < lost(corner, (0, 1, 4, 6))


@pytest.mark.parametrize("bound", [0.0, 0.02, 0.1, 0.5, 100.0])
def test_no_schedule_has_fewer_steps_or_a_smaller_error(bound):
    """Steps wasted, or a picture that loses more than was allowed."""
    torch.manual_seed(4)
    row = [torch.randn(SHAPE) * 0.2 + torch.full(SHAPE, float(level)) for level in LEVELS[:-1]]
    plan = fewest_steps(products(row), LEVELS, bound)
    assert plan[0] == 0 and plan[-1] == 6 and lost(row, plan) <= bound + 1e-6
    middle = range(1, 6)
    for count in range(6):
        for some in combinations(middle, count):
            other = (0, *some, 6)
            if len(other) < len(plan):
                assert lost(row, other) > bound - 1e-6
            elif len(other) == len(plan):
                assert lost(row, other) >= lost(row, plan) - 1e-6 or lost(row, other) > bound


def test_two_steps_are_never_one():
    """The last step is what a frame shows; at pocket's two nothing may be skipped."""
    levels = np.array([1.0, 0.75, 0.0])
    assert fewest_steps(products(velocities(1.0, 1.0)), levels, 100.0) == (0, 1)
    assert fewest_steps(products(velocities(1.0)), levels[1:], 100.0) == (0,)


def test_a_frame_with_a_warm_start_computes_its_first_step():
    """A step of the plan that it never saw, or a line through one point."""
    row, asked = velocities(*range(7)), []

    def velocity(latents: torch.Tensor, step: int) -> torch.Tensor:
        asked.append(step)
        return row[step]

    told = replayed(velocity, (0, 1, 4, 6), LEVELS)
    answers = [float(told(row[0], step).mean()) for step in range(2, 7)]
    assert asked == [2, 4, 6]
    assert answers[:3] == [2.0, 2.0, 4.0] and answers[4] == 6.0
    assert answers[3] == pytest.approx(4 + 2 * (0.25 - 0.4) / (0.4 - 0.75))


def test_only_a_frame_from_the_noise_makes_the_schedule():
    """A schedule from the steps of a warm start, or a frame that ended between two steps."""
    skips, row = StepSkipping(100.0), velocities(*range(7))
    levels = torch.tensor(LEVELS)

    def run(is_whole: bool, num_steps: int = 7) -> None:
        velocity = skips.wrap(lambda latents, step: row[step], levels, is_whole)
        for step in range(num_steps):
            velocity(row[0], step)

    run(is_whole=False)
    run(is_whole=True, num_steps=6)
    assert skips.schedule is None
    run(is_whole=True)
    assert skips.schedule == (0, 6)


def adaptive(row: list[torch.Tensor], levels: np.ndarray, bound: float) -> tuple[list[int], float]:
    """The steps that a first frame computes where these are its velocities, and what it loses by the others."""
    computed: list[int] = []
    velocity = AdaptiveSteps(lambda _, step: row[step], levels, bound, lambda steps, _: computed.extend(steps))
    misses = [velocity(row[0], step) - row[step] for step in range(len(row))]
    errors = [float(miss.square().mean().sqrt()) for miss in misses]
    return computed, float(np.dot(errors, -np.diff(levels)))


def test_a_first_frame_skips_where_its_way_is_straight():
    """The first frame of an edit computed all of 28 steps to find that seven do."""
    levels = np.linspace(1, 0, 29)
    straight = velocities(*(2 * level + 1 for level in levels[:-1]))
    assert adaptive(straight, levels, 0.01)[0] == [0, 1, 2, 27]
    wave = velocities(*np.sin(4 * levels[:-1]))
    steps, loss = adaptive(wave, levels, 0.01)
    assert len(steps) < 20 and loss < 0.015
    assert adaptive(wave, levels, 0.0)[0] == list(range(28))
    random = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(step)) for step in range(28)]
    assert len(adaptive(random, levels, 0.01)[0]) > 24


def test_what_the_first_frame_skipped_is_known_from_its_neighbours():
    """A plan by what a line told, which is straight by construction: nothing would be lost."""
    levels = np.linspace(1, 0, 13)
    cubic = velocities(*(level**3 - level for level in levels[:-1]))
    computed = [0, 1, 4, 8, 11]
    known = filled(products([cubic[step] for step in computed]), levels, computed)
    np.testing.assert_allclose(known, products(cubic), atol=1e-5)


def test_no_schedule_is_searched_for_very_many_steps():
    """The search grows with the cube of the steps: half a minute at 400, while nothing can be rendered."""
    skips = StepSkipping(100.0)
    levels = torch.linspace(1, 0, MOST_STEPS + 2)
    velocity = skips.wrap(lambda latents, step: latents, levels, True)
    for step in range(len(levels) - 1):
        velocity(torch.zeros(1, 1, 1), step)
    assert skips.schedule is None


def calls_of(session, monkeypatch, strength: float) -> int:
    """How many velocities are computed for a frame."""
    with monkeypatch.context() as patch:
        rows = note_velocities(patch)
        session.render(strength)
    return len(rows)


def skipping_engine(pipe) -> SliderEngine:
    """A fast engine whose only shortcut is to skip steps."""
    engine = SliderEngine(pipe, speed="fast")
    engine.speed = replace(engine.speed, shortcuts=Bounds(skip_error=100.0))
    return engine


def test_all_frames_skip_steps_and_exact_ones_none(pipe, monkeypatch):
    """A switch that is on where frames must be exact, or a schedule that nobody follows."""
    for engine, first, others in ((SliderEngine(pipe, speed="exact"), 6, 6), (skipping_engine(pipe), 4, 2)):
        with engine.open(tiny_image(), INSTRUCTION, seed=0, steps=6) as session:
            assert calls_of(session, monkeypatch, 0.9) == first
            assert calls_of(session, monkeypatch, 0.4) == others


def test_one_frame_of_a_sweep_makes_the_schedule_for_its_batches(pipe, monkeypatch):
    """Eight frames computed whole at once, of which seven could have skipped."""
    engine, rows = skipping_engine(pipe), note_velocities(monkeypatch)
    engine.batch = BatchSize(3)
    with engine.open(tiny_image(), INSTRUCTION, seed=0, steps=6, source_at_zero=False) as session:
        assert len(list(session.sweep(5))) == 5
    assert rows == [1] * 4 + [3] * 2 + [1] * 2
    rows.clear()
    with engine.open(tiny_image(), INSTRUCTION, seed=0, steps=2) as session:  # of two steps none is skipped
        list(session.sweep(3))
    assert rows == [2] * 2


def test_a_batch_has_one_schedule():
    """Rows of one velocity taken for several frames', or a first step of one row beside others of three."""
    row = [torch.randn(1, 3, 2), torch.randn(3, 3, 2)]
    assert products(row)[0, 1] == pytest.approx(float((row[0] * row[1]).mean()), abs=1e-6)
