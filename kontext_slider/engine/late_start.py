"""Where the frames of an edit are on their way through the steps, and where another frame would be.

All strengths start from one noise, and what some of the steps make of it moves smoothly along the slider: it can be
mixed of what near neighbours have there, by their offsets (`between.py`). A frame that starts there costs the steps
that are left, which see its own strength and repair some of what the mixture missed. (Mixed *pictures* cost nothing and
are not repaired.) What was missed is estimated by leaving one neighbour out; a frame starts as late as that is little
enough, or from the noise.

Legend: B frames, L target tokens, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .between import OffsetsAt, mixtures, neighbours
from .cache import ByteCache
from .speed import Speed

if TYPE_CHECKING:
    from .session import EditSettings

PLACES = 8  # parts that the steps are divided into; a frame may start at the end of each but the last


class Start(NamedTuple):
    """Latents (1, L, C) before step number `step`."""

    step: int
    latents: Tensor


class Trail:
    """Latents of one edit before step number `step`, 0 to R - 1.

    cache: holds them for all edits, and may let go of any. settings: of the edit, which its keys begin with."""

    def __init__(self, cache: ByteCache[Tensor], settings: EditSettings) -> None:
        self._cache, self._settings = cache, settings

    @property
    def era(self) -> int:
        return self._cache.era

    def put(self, strengths: Sequence[float], step: int, latents: Tensor, era: int | None = None) -> None:
        """Remember a batch (B, L, C), unless all was forgotten since `era`, in which it was begun."""
        for strength, row in zip(strengths, latents.split(1), strict=True):
            self._cache.put((self._settings, strength, step), row.clone(), row.nbytes, era)

    def get(self, strength: float, step: int) -> Tensor | None:
        """(1, L, C), or None where it never was or is gone."""
        return self._cache.get((self._settings, strength, step))


class LateStart:
    """The latents of one edit on their way, by strength.

    steps: R. speed: how wide a gap, and how unsure a guess, is too much (`guess_reach`, `guess_error`). offsets_at: the
    slider's offsets at strengths."""

    def __init__(self, trail: Trail, steps: int, speed: Speed, offsets_at: OffsetsAt) -> None:
        self.places = sorted({steps * part // PLACES for part in range(1, PLACES)} - {0})
        self._trail, self._speed, self._offsets_at = trail, speed, offsets_at
        self._strengths: set[float] = set()

    @property
    def era(self) -> int:
        """What `keep` is to be told of frames that begin now."""
        return self._trail.era

    def keep(self, strengths: Sequence[float], step: int, latents: Tensor, era: int | None = None) -> None:
        """Remember where frames are, (B, L, C), that came here from the noise and were begun in `era`."""
        if step in self.places and self._speed.guess_error is not None:
            self._trail.put(strengths, step, latents, era)
            self._strengths.update(strengths)

    def guess(self, strength: float) -> Start | None:
        """The latest place where the frame at `strength` can be told well enough; None where none can."""
        bound = self._speed.guess_error
        near = neighbours(tuple(self._strengths), strength, self._speed.guess_reach, self._speed.nodes)
        if bound is None or not near:
            return None
        weights = mixtures(self._offsets_at, near, strength)
        for step in reversed(self.places):
            rows = [row for other in near if (row := self._trail.get(other, step)) is not None]
            if len(rows) < len(near):
                continue
            best, other = torch.tensordot(weights.to(rows[0].device), torch.cat(rows).float(), 1).split(1)
            if float((best - other).square().mean().sqrt()) <= bound:
                return Start(step, best.to(rows[0].dtype))
        return None
