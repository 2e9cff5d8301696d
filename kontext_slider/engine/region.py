"""The part of the picture that an edit changes, found once from both ends of the slider.

Where strength 0 and strength 1 agree, all strengths do. Those target tokens are left out of the sequence, which is what
a step's time goes by, and stand in the finished latents as a mixture of both ends. Source tokens all stay: the model
reads the picture there.

Legend: B frames, L target tokens in h rows of w, M of them in the region, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from .trail import Trail

MOST = 0.8  # of the tokens; a larger region saves next to nothing

Ends = tuple[Tensor, Tensor]  # latents (1, L, C) at strength 0 and at 1


@dataclass(frozen=True)
class Part:
    """A region, and what stands around it.

    tokens: numbers of the tokens that change and of their neighbours, ascending, (M,). finished: the ends."""

    tokens: Tensor
    finished: Ends

    def filled(self, rows: Tensor, strengths: Sequence[float], ends: Ends) -> Tensor:
        """All tokens (B, L, C) of frames whose region is `rows` (B, M, C), among those of `ends`."""
        weights = torch.tensor(list(strengths), dtype=rows.dtype, device=rows.device)[:, None, None]
        return torch.lerp(*ends, weights).index_copy(1, self.tokens, rows)


class Region:
    """The tokens of one edit that change.

    Args:
        trail: remembers the ends' latents.
        grid: (h, w).
        steps: R.
        threshold: root mean square over its channels, from which a token counts as changed; None: all do.
    """

    def __init__(self, trail: Trail, grid: tuple[int, int], steps: int, threshold: float | None) -> None:
        self._trail, self._grid, self._steps, self._threshold = trail, grid, steps, threshold

    def keep(self, strengths: Sequence[float], latents: Tensor) -> None:
        """Remember the ends among finished frames, (B, L, C)."""
        for strength, row in zip(strengths, latents.split(1), strict=True):
            if strength in (0, 1) and self._threshold is not None:
                self._trail.put([strength], self._steps, row)

    def find(self) -> Part | None:
        """The region; None where it is everything or nothing, or not known yet."""
        ends = self.ends(self._steps)
        if ends is None or self._threshold is None:
            return None
        changed = (ends[1] - ends[0]).float().square().mean(-1).sqrt() > self._threshold  # (1, L)
        wider = max_pool2d(changed.float().unflatten(1, self._grid), 3, stride=1, padding=1)  # (1, h, w)
        tokens = wider.flatten().nonzero().flatten()
        pays = 0 < len(tokens) <= MOST * changed.shape[1]
        return Part(tokens, ends) if pays else None

    def ends(self, step: int) -> Ends | None:
        """Strengths 0 and 1 before step number `step`, or finished, at R; None where they never were or are gone."""
        first, last = (self._trail.get(strength, step) for strength in (0.0, 1.0))
        return None if first is None or last is None else (first, last)
