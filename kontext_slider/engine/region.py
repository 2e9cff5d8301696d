"""The part of the picture that an edit changes, found once from both ends of the slider.

Where strength 0 and strength 1 agree, all strengths do. Those target tokens are left out of the sequence, which is what
a step's time goes by, and stand in the finished latents as a mixture of both ends. Source tokens all stay: the model
reads the picture there.

Legend: B frames, L target tokens in h rows of w, M of them in the region, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from .trail import Trail

MOST = 0.8  # of the tokens; a larger region saves next to nothing
ENDS = (0.0, 1.0)


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
            if strength in ENDS and self._threshold is not None:
                self._trail.put([strength], self._steps, row)

    def tokens(self) -> Tensor | None:
        """Numbers of the changed tokens and of their neighbours, ascending, (M,); None: all, or not known yet."""
        ends = self._ends(self._steps)
        if ends is None or self._threshold is None:
            return None
        changed = (ends[1] - ends[0]).float().square().mean(-1).sqrt() > self._threshold  # (1, L)
        wider = max_pool2d(changed.float().unflatten(1, self._grid), 3, stride=1, padding=1)  # (1, h, w)
        tokens = wider.flatten().nonzero().flatten()
        return tokens if 0 < len(tokens) <= MOST * changed.shape[1] else None

    def filled(self, part: Tensor, tokens: Tensor, strengths: Sequence[float], step: int) -> Tensor | None:
        """All tokens (B, L, C) of frames whose region is `part` (B, M, C), before step number `step`; R: when finished.
        None where an end's latents of that step are gone."""
        ends = self._ends(step)
        if ends is None:
            return None
        weights = torch.tensor(list(strengths), dtype=part.dtype, device=part.device)[:, None, None]
        return torch.lerp(ends[0], ends[1], weights).index_copy(1, tokens, part)

    def _ends(self, step: int) -> tuple[Tensor, Tensor] | None:
        first, last = (self._trail.get(strength, step) for strength in ENDS)
        return None if first is None or last is None else (first, last)
