"""The untouched end of the slider, held to the source itself.

A model's frame at strength 0 is nearly the source: the codec and the sampling lose a little. The paper leaves it so.
Anchored, every frame gets back what the frame at 0 lost: in full at 0, nothing at 1, a straight line in between. So
strength 0 is the source to the bit, the full edit stays the model's, and no step of the slider is spent on the loss.

Legend: N frames, H and W their sides; pictures in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor


def anchored(frames: Tensor, strengths: Sequence[float], lost: Tensor) -> Tensor:
    """Frames (N, 3, H, W) at `strengths` with the share of `lost` (1, 3, H, W) that each is due; clipped to [0, 1].

    `lost` is the source minus the model's frame at strength 0."""
    share = torch.tensor([max(0.0, 1.0 - strength) for strength in strengths])
    return (frames + share.to(frames)[:, None, None, None] * lost.to(frames)).clamp(0, 1)


def is_needed(strengths: Sequence[float]) -> bool:
    """Whether any of these strengths has a share."""
    return min(strengths) < 1


def as_output(processor: VaeImageProcessor, frames: Tensor, output_type: str):
    """Frames (N, 3, H, W) as "pt", "np" (N, H, W, 3) or a list of "pil"."""
    if output_type == "pt":
        return frames
    arrays = processor.pt_to_numpy(frames)
    return arrays if output_type == "np" else processor.numpy_to_pil(arrays)
