"""Strength 0 is the source itself, and residual correction, which leads there without a step.

The rule: whoever asks for a picture at strength 0 gets the source, to the last bit, whatever the model. It is applied
where frames are made: in `pipeline.py` and in `engine/session.py`. A model's own frame at strength 0 is nearly the
source: the codec and the sampling drop a little. The paper shows that one; `source_at_zero=False` gives it.

With the model setting `anchor_source` the other frames are held to the source as well: the one at strength s gets back
1 - s of the source residual, which is the source minus the model's frame at strength 0. So nothing leaps at 0, and the
full edit stays the model's. Such a model has no other frame at 0. A slider may be trained on frames that are so
corrected (`train/flow.py`), as pocket's is: then its own frame at 0 need not look like the source.

Legend: N frames, H and W their sides; pictures in [0, 1]; L packed tokens of C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def needs_source(is_anchored: bool, source_at_zero: bool, strengths: Sequence[float]) -> bool:
    """Whether frames at `strengths` are the source, or are corrected by it."""
    return (is_anchored and min(strengths) < 1) or (source_at_zero and 0 in strengths)


def correct(frames: Tensor, strengths: Sequence[float], residual: Tensor) -> Tensor:
    """Frames (N, 3, H, W) at `strengths` with their share of `residual` (1 or N, 3, H, W); clipped to [0, 1]."""
    return add_residual(frames, strengths, residual).clamp(0, 1)


def add_residual(frames: Tensor, strengths: Sequence[float], residual: Tensor) -> Tensor:
    """As `correct`, not clipped, of pictures or latents (N, L, C)."""
    shares = residual_share(torch.tensor(list(strengths))).to(frames)
    return frames + shares.reshape(-1, *[1] * (frames.ndim - 1)) * residual.to(frames)


def residual_share(strengths: Tensor) -> Tensor:
    """The share of the residual that frames at `strengths` (N,) get, (N,): 1 - s, nothing from 1 on."""
    return (1 - strengths).clamp(min=0)
