"""Calls of the tiny pipeline that several test files make."""

from __future__ import annotations

import warnings

import torch
from diffusers import FluxKontextPipeline
from peft import LoraConfig

from kontext_slider import KontextSliderPipeline
from tests.tiny import (
    INSTRUCTION,
    PLAIN,
    shake,
    tiny_image,
)

STRENGTHS = [0.0, 0.25, 0.5, 1.0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parent_of(pipe: KontextSliderPipeline) -> FluxKontextPipeline:
    parts = {name: part for name, part in pipe.components.items() if name != "slider_projector"}
    parent = FluxKontextPipeline(**parts)
    parent.set_progress_bar_config(disable=True)
    return parent


def add_style(pipe: KontextSliderPipeline) -> None:
    """Another LoRA, active, with visible effect."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")  # peft, of two adapters
        pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q", "attn.to_v"]), "style")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        shake([p for name, p in pipe.transformer.named_parameters() if ".style." in name], 0.4)


def render(pipe, strength=None, **changes):
    """The model's own frames, as latents."""
    settings = {"generator": seeded(), "output_type": "latent", "source_at_zero": False, **PLAIN, **changes}
    return pipe(tiny_image(), INSTRUCTION, strength=strength, **settings).images


def state_of(pipe) -> list:
    """LoRA switches, gradients wanted, modules, hooks."""
    found = [(p.requires_grad, p.data_ptr()) for p in pipe.transformer.parameters()]
    for module in pipe.transformer.modules():
        switches = (getattr(module, "_active_adapter", None), getattr(module, "_disable_adapters", None))
        found.append((module, sorted(vars(module)), list(module._modules.values()), switches))
    return found
