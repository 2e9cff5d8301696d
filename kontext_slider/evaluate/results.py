"""What one method did on one edit, and one edit by all methods: the numbers that reports are made of.

A sweep is y_0 (the source) and y_1..y_N, frames at strengths i/N. Rulers are distances between pictures, several side
by side, each under its name (`features.find_rulers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import Picture, trajectory
from kontext_slider.metrics.distances import Matrix
from kontext_slider.metrics.trajectory import Smoothness

NUM_STEPS = 6  # N of the paper
STRENGTHS = tuple(k / NUM_STEPS for k in range(NUM_STEPS + 1))


@dataclass(frozen=True)
class Result:
    """One method on one edit.

    measures: a dataclass of numbers, or None where a measure has none. smoothness: by ruler. curves: by name, at
    STRENGTHS; a ruler's curve is the distance to the source as a share of the whole."""

    measures: Any
    smoothness: dict[str, Smoothness]
    curves: dict[str, list[float]]


@dataclass(frozen=True)
class MeasuredEdit:
    """One edit by all methods.

    facts: for its rows in a table. results: by method. phrasing_loss: dB that words which training never saw cost ours
    at strength 1; below 0 they are better. beyond: see `truth.score_beyond`."""

    facts: dict[str, Any]
    results: dict[str, Result]
    phrasing_loss: float = 0.0
    beyond: dict[str, list[float]] | None = None


def check_frames(row: str, frames: Sequence[Picture], edit: str) -> None:
    """Raise InvalidInput for frames with values that are no numbers, as a precision that is too low makes them: they
    would measure as the smoothest of all."""
    if not all(np.isfinite(frame).all() for frame in frames):
        raise InvalidInput(
            f"'{row}' makes frames of the edit '{edit}' that are no pictures: they have values that are no numbers. "
            "Try it with --dtype float32, or leave it out."
        )


def smoothness_of(matrices: Mapping[str, Matrix]) -> dict[str, Smoothness]:
    """By ruler, from the distances of a sweep."""
    return {ruler: trajectory.smoothness(matrix) for ruler, matrix in matrices.items()}


def measures_of(edits: Sequence[MeasuredEdit], row: str) -> list[Any]:
    """A method's measures, edit by edit."""
    return [edit.results[row].measures for edit in edits]


def smoothness_by(edits: Sequence[MeasuredEdit], row: str, ruler: str) -> list[Smoothness]:
    """A method's smoothness by one ruler, edit by edit."""
    return [edit.results[row].smoothness[ruler] for edit in edits]


def rulers_of(edits: Sequence[MeasuredEdit]) -> list[str]:
    """The rulers that were used, in their order."""
    return list(next(iter(edits[0].results.values())).smoothness)
