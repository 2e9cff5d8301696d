"""Does an instruction reach the object that it names, and in other words than those of the training?

Legend: pictures (H, W, 3) float32 in [0, 1]; masks (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kontext_slider.evaluate.base_run import Method
from kontext_slider.metrics import to_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.trajectory import edited_mask
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import Case
from kontext_slider.world.paint import Picture

REACHED = 0.5  # of the truth's change, that the intended object must show
FACTOR = 3.0  # by which it must change more than the other objects


def right_object(
    source: Picture,
    frame: Picture,
    truth: Picture,
    mask: NDArray[np.bool_],
    others: NDArray[np.bool_] | None,
) -> bool:
    """Whether a full edit changed the object that was meant and no other.

    The intended place is the object's, and wherever else the truth changes (an object that grows); the other objects
    are looked at outside of it. Changes are mean absolute differences to the source. The intended place changes by
    REACHED of what the truth does or more, and by more than FACTOR times what the others do."""
    intended = mask | edited_mask(source, [truth])
    elsewhere = np.zeros_like(mask) if others is None else others & ~intended
    inside, outside = _change(source, frame, intended), _change(source, frame, elsewhere)
    return inside >= REACHED * _change(source, truth, intended) and inside > FACTOR * outside


def held_out_losses(
    pipe: KontextSliderPipeline, method: Method, seen: Sequence[float], held_out: Sequence[Case], seed: int
) -> list[float]:
    """What words that training never saw cost at full strength, dB per case; 0 or less is no loss.

    Args:
        seen: dB of the same scenes' full edits asked for in words of the training.
        held_out: the scenes with other words.
    """
    losses = []
    for decibels, case in zip(seen, held_out, strict=True):
        (frame,) = method(pipe, to_image(case.source), case.instruction, (1.0,), seed)
        losses.append(decibels - psnr(frame, case.truth(1.0)))
    return losses


def _change(source: Picture, frame: Picture, where: NDArray[np.bool_]) -> float:
    return float(np.abs(frame - source)[where].mean()) if where.any() else 0.0
