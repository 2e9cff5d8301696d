"""The untouched end of the slider, held to the source itself.

A model's frame at strength 0 is nearly the source: the codec and the sampling lose a little. The paper leaves it so.
Anchored, every frame gets back what the frame at 0 lost: in full at 0, nothing at 1, a straight line in between. So
strength 0 is the source to the bit, the full edit stays the model's, and no step of the slider is spent on the loss.
A slider may be trained on what is so shown (`train/flow.py`, `shown_error`), as pocket's is. What it makes of strength
0 by itself is then free, and need not look like the source: it is with its share of the loss that a frame is trained.

Legend: N frames, H and W their sides; pictures in [0, 1]; L packed tokens of C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def anchored(frames: Tensor, strengths: Sequence[float], lost: Tensor) -> Tensor:
    """Frames (N, 3, H, W) at `strengths` with the share of `lost` (1, 3, H, W) that each is due; clipped to [0, 1].

    `lost` is the source minus the model's frame at strength 0."""
    return given_back(frames, strengths, lost).clamp(0, 1)


def given_back(frames: Tensor, strengths: Sequence[float], lost: Tensor) -> Tensor:
    """As `anchored`, not clipped, of pictures or latents (N, L, C). lost: of one row, for all frames, or of N."""
    due = share(torch.tensor(list(strengths))).to(frames)
    return frames + due.reshape(-1, *[1] * (frames.ndim - 1)) * lost.to(frames)


def share(strengths: Tensor) -> Tensor:
    """What frames at `strengths` (N,) are due of the loss, (N,): 1 - s, nothing from 1 on."""
    return (1 - strengths).clamp(min=0)
