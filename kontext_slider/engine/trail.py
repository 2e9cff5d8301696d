"""What an edit's frames leave behind besides their pictures: latents, by strength and step.

Legend: B frames, L target tokens, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from .cache import ByteCache

if TYPE_CHECKING:
    from .session import EditSettings


class Trail:
    """Latents of one edit before step number `step`, 0 to R - 1.

    cache: holds them for all edits, and may let go of any. settings: of the edit, which its keys begin with."""

    def __init__(self, cache: ByteCache[Tensor], settings: EditSettings) -> None:
        self._cache, self._settings = cache, settings

    def put(self, strengths: Sequence[float], step: int, latents: Tensor) -> None:
        """Remember a batch (B, L, C)."""
        for strength, row in zip(strengths, latents.split(1), strict=True):
            self._cache.put((self._settings, strength, step), row.clone(), row.nbytes)

    def get(self, strength: float, step: int) -> Tensor | None:
        """(1, L, C), or None where it never was or is gone."""
        return self._cache.get((self._settings, strength, step))
