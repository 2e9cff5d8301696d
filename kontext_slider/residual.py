"""Residual correction: the untouched end of the slider is the source itself.

A model's frame at strength 0 is nearly the source: the codec and the sampling drop a little. The paper leaves it so.
With the model setting `anchor_source`, every frame at strength s gets back 1 - s of the source residual, which is the
source minus the model's frame at strength 0. So strength 0 is the source to the bit, and the full edit stays the
model's. A slider may be trained on frames that are so corrected (`train/flow.py`), as pocket's is: then its own frame
at 0 need not look like the source.

Legend: N frames, H and W their sides; pictures in [0, 1]; L packed tokens of C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
