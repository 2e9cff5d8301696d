"""Distances along a strip: how much the edit does, how well it is reconstructed, how evenly the frames go there.

Paper, section 3.1 and appendix A.2; the names of the authors' columns are given beside ours.

Legend: N + 1 frames y_0 .. y_N between source and edit; d a distance of `metrics.distances`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import Distance, Matrix
from kontext_slider.metrics.trajectory import TINY, second_order
from kontext_slider.world.paint import Picture


@dataclass(frozen=True)
class Scores:
    """One strip's distances."""

    source_edit: float  # d(source, edit); lpips_kontext_edit
    edit_reconstruction: float  # d(edit, y_N); lpips_edit_inversion
    source_reconstruction: float  # d(source, y_0); the first of lpips_sequence
    steps: tuple[float, ...]  # d(y_k, y_k+1), N of them; the inner ones of lpips_sequence
    kl: float
    delta_smooth: float | None  # None where only neighbours were ever compared


def score_tiles(tiles: Sequence[Image.Image], distance: Distance) -> Scores:
    """Scores of source, y_0 .. y_N, edit."""
    matrix = distance([to_picture(tile) for tile in tiles])
    steps = tuple(float(step) for step in np.diagonal(matrix, 1)[1:-1])
    return Scores(
        source_edit=float(matrix[0, -1]),
        edit_reconstruction=float(matrix[-2, -1]),
        source_reconstruction=float(matrix[0, 1]),
        steps=steps,
        kl=kl_from_even(steps),
        delta_smooth=second_order(matrix[1:-1, 1:-1]),
    )


def kl_from_even(steps: Sequence[float]) -> float:
    """KL(p || uniform) of the steps' shares p, natural logarithm: 0 where all are equal, ln N where one has it all.

    ln N as well where nothing moves: such a strip shows no strength."""
    total, count = float(np.sum(steps)), len(steps)
    if total <= TINY:
        return math.log(count)
    shares = np.asarray(steps, dtype=np.float64) / total
    moving = shares[shares > 0]
    return float(np.sum(moving * np.log(moving * count)))


def on_release_scale(lpips: Distance) -> Distance:
    """LPIPS as the authors' release computes it: its network is fed pictures in [0, 1], not in [-1, 1]. The thresholds
    of the paper live on this scale."""

    def distance(pictures: Sequence[Picture]) -> Matrix:
        return lpips(
            [(picture + np.float32(1)) / np.float32(2) for picture in pictures]
        )  # from [0.5, 1], `lpips` makes [0, 1]

    return distance
