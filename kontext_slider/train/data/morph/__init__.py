"""Morphers: the pictures between a source and its full edit, behind one signature.

A morpher is `(pipe, source, edited, instruction, strengths, seed) -> pictures`, one per strength, of the source's size.
At 0 and 1 it gives its *reconstructions* of the two pictures, which need not be them.
"""

from __future__ import annotations

import torch

from kontext_slider.train.data.morph.fade import Morpher, latent_fade, pixel_fade, warp_fade

MORPHERS: dict[str, Morpher] = {"pixel-fade": pixel_fade, "latent-fade": latent_fade, "warp-fade": warp_fade}
FREEMORPH = "freemorph"  # needs a model of its own, which is loaded only when it is chosen


def find_morpher(name: str, device: torch.device, dtype: torch.dtype, freemorph_model: str) -> Morpher:
    """The morpher of that name. `freemorph_model`: the Stable Diffusion that FreeMorph runs on, a folder or hub id.

    CheckpointError where that model cannot be loaded."""
    if name != FREEMORPH:
        return MORPHERS[name]
    from kontext_slider.train.data.morph.freemorph import FreeMorph

    return FreeMorph.from_pretrained(freemorph_model, device, dtype)
