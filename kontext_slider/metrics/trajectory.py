"""Measures of a sweep, from the distances between its pictures and from the truth where there is one.

A sweep is y_0, y_1, ..., y_N: the source itself and the frames at strengths i/N (paper, appendix A.6). Smoothness needs
nothing but the matrix of distances d(i, j), so any image distance will do (`metrics.distances`).

Legend: N + 1 pictures (H, W, 3) of a sweep, float32 in [0, 1]; distances (N + 1, N + 1), symmetric, with a diagonal
of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from kontext_slider.metrics import Picture
from kontext_slider.metrics.distances import Matrix

TINY = 1e-9
CHANGED = 0.5  # share of the truth's change that the intended object must show
FACTOR = 3.0  # by which it must change more than the other objects


@dataclass(frozen=True)
class Smoothness:
    """How evenly one sweep moves, by one distance: first and second order, and the functions of these names."""

    delta_smooth: float
    delta_first: float
    linearity_error: float
    monotonicity: float


def smoothness(distances: Matrix) -> Smoothness:
    """All of them."""
    measures = (second_order, first_order, linearity_error, monotonicity)
    return Smoothness(*(measure(distances) for measure in measures))


def first_order(distances: Matrix) -> float:
    """delta_1: the largest step's share of the whole path, in [1/N, 1]; 1/N is an even path. 0 if nothing moves."""
    steps = np.diagonal(distances, 1)
    return float(steps.max() / steps.sum()) if steps.sum() > TINY else 0.0


def second_order(distances: Matrix) -> float:
    """delta_smooth, the triangle deficit: max over i of (d(i,i+1) + d(i+1,i+2) - d(i,i+2)) / d(i,i+2).

    0 is a path without detours in a metric; below 0 in cosine distances (DreamSim, CLIP), which grow as squares.
    Unbounded where a picture and the next but one are the same but the one between is not. Triples that do not move at
    all have no deficit; a sweep of nothing else has 0."""
    steps, skips = np.diagonal(distances, 1), np.diagonal(distances, 2)
    detours = steps[:-1] + steps[1:] - skips
    moving = steps[:-1] + steps[1:] > TINY
    return float(np.max(detours[moving] / np.maximum(skips[moving], TINY))) if moving.any() else 0.0


def progress(distances: Matrix) -> NDArray[np.float64]:
    """Distance to the source as a share of the last frame's, (N + 1,), from 0 to 1. Zeros if the last is the source."""
    row = distances[0]
    return row / row[-1] if row[-1] > TINY else np.zeros_like(row)


def linearity_error(distances: Matrix) -> float:
    """Mean absolute difference of `progress` and strength over y_1..y_N; 0 is a slider that moves evenly."""
    found = progress(distances)
    return float(np.abs(found - np.linspace(0, 1, len(found)))[1:].mean())


def monotonicity(distances: Matrix) -> float:
    """Spearman's rank correlation of strength and distance to the source, in [-1, 1]; 0 if nothing moves."""
    row = distances[0]
    return float(spearmanr(row, np.arange(len(row))).statistic) if np.ptp(row) else 0.0


def apparent_strengths(frames: Sequence[Picture], levels: Sequence[Picture]) -> NDArray[np.float64]:
    """The strengths in [0, 1] whose truths have the smallest mean square difference to the frames, (frames,).

    `levels` holds truths at evenly spaced strengths from 0 to 1; between them, a parabola through the smallest error
    and its neighbours has its bottom."""
    f, t = (np.stack([p.ravel() for p in pictures]).astype(np.float64) for pictures in (frames, levels))
    errors = ((f**2).sum(1)[:, None] - 2 * f @ t.T + (t**2).sum(1)) / f.shape[1]  # (frames, levels), one product
    best = errors.argmin(1)
    at = np.clip(best, 1, len(levels) - 2)
    left, middle, right = (np.take_along_axis(errors, at[:, None] + n, 1)[:, 0] for n in (-1, 0, 1))
    curvature = left - 2 * middle + right
    inside = (best == at) & (curvature > 0)
    return (best + np.where(inside, 0.5 * (left - right) / np.where(inside, curvature, 1), 0)) / (len(levels) - 1)


def calibration_error(frames: Sequence[Picture], strengths: Sequence[float], levels: Sequence[Picture]) -> float:
    """Mean absolute difference of the given strengths and the strengths that the frames look like."""
    return float(np.abs(apparent_strengths(frames, levels) - np.array(strengths)).mean())


def edited_mask(source: Picture, truths: Sequence[Picture], threshold: float = 2 / 255) -> NDArray[np.bool_]:
    """Where any truth differs from the source by more than `threshold` in a channel, (H, W)."""
    return np.max([np.abs(truth - source).max(-1) for truth in truths], axis=0) > threshold


def leakage(frames: Sequence[Picture], mask: NDArray[np.bool_]) -> float | None:
    """Root mean square change outside `mask` between the first frame and the others, as a share of the last frame's
    change inside it. Frames start at strength 0, so that what the codec loses does not count. None where the edit
    covers more than nine tenths of the picture, or nothing."""
    if not 0 < mask.mean() <= 0.9:
        return None
    outside = np.sqrt(np.mean([(frame - frames[0])[~mask] ** 2 for frame in frames[1:]]))
    inside = np.sqrt(np.mean((frames[-1] - frames[0])[mask] ** 2))
    return float(outside / max(inside, TINY))


def right_object(
    source: Picture, frame: Picture, truth: Picture, mask: NDArray[np.bool_], others: NDArray[np.bool_] | None
) -> bool:
    """Whether a full edit changed the object that was meant and no other.

    The intended place is the object's, and wherever else the truth changes (an object that grows); the other objects
    are looked at outside of it. Changes are mean absolute differences to the source. The intended place changes by
    CHANGED of what the truth does or more, and by more than FACTOR times what the others do."""
    intended = mask | edited_mask(source, [truth])
    elsewhere = np.zeros_like(mask) if others is None else others & ~intended
    outside = np.abs(frame - source)[elsewhere].mean() if elsewhere.any() else 0.0
    inside, wanted = (np.abs(picture - source)[intended].mean() for picture in (frame, truth))
    return bool(inside >= CHANGED * wanted and inside > FACTOR * outside)
