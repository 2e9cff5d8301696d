"""Warm start: a frame starts in the middle of its steps, from latents that are interpolated between known frames.

All strengths start from one noise, and after some of the steps the latents still move smoothly along the slider. So
they can be interpolated between near strengths (`interpolation.py`), and the steps that are left see the frame's own
strength and repair some of the error. The error is estimated by leaving one neighbour out; a frame starts as late as
the estimate allows, or from the noise.

Legend: B frames, L target tokens, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..cache import ByteCache
from .interpolation import OffsetsAt, mixtures, neighbours

NUM_PARTS = 8  # that the steps are divided into; a frame may start at the end of each but the last


class Start(NamedTuple):
    """Latents (1, L, C) before step number `step`."""

    step: int
    latents: Tensor


class WarmStart:
    """The latents of one edit between its steps, by strength.

    Args:
        cache: holds them for all edits, and may drop any. key: of this edit in it.
        steps: R.
        bound: root mean square error of latents up to which a start is good enough; None: frames start at the noise.
        max_gap: of strength, the widest that is interpolated across.
        min_frames: that a start is interpolated from.
        offsets_at: the slider's offsets at strengths.
    """

    def __init__(
        self,
        cache: ByteCache[Tensor],
        key: Hashable,
        steps: int,
        bound: float | None,
        max_gap: float,
        min_frames: int,
        offsets_at: OffsetsAt,
    ) -> None:
        self.places = sorted({steps * part // NUM_PARTS for part in range(1, NUM_PARTS)} - {0})
        self._cache, self._key, self._offsets_at = cache, key, offsets_at
        self._bound, self._max_gap, self._min_frames = bound, max_gap, min_frames
        self._strengths: set[float] = set()

    def keep(self, strengths: Sequence[float], step: int, latents: Tensor, generation: int | None = None) -> None:
        """Remember latents (B, L, C) before a step, of frames that started at the noise in that cache generation."""
        if step not in self.places or self._bound is None:
            return
        for strength, row in zip(strengths, latents.split(1), strict=True):
            self._cache.put((self._key, strength, step), row.clone(), row.nbytes, generation)
        self._strengths.update(strengths)

    def find(self, strength: float) -> Start | None:
        """The latest start of the frame at `strength` with a small enough estimated error; None where there is none."""
        near = neighbours(tuple(self._strengths), strength, self._max_gap, self._min_frames)
        if self._bound is None or not near:
            return None
        weights = mixtures(self._offsets_at, near, strength)
        for step in reversed(self.places):
            keys = [(self._key, other, step) for other in near]
            rows = [row for key in keys if (row := self._cache.get(key)) is not None]
            if len(rows) < len(near):
                continue
            best, other = torch.tensordot(weights.to(rows[0].device), torch.cat(rows).float(), 1).split(1)
            if float((best - other).square().mean().sqrt()) <= self._bound:
                return Start(step, best.to(rows[0].dtype))
        return None
