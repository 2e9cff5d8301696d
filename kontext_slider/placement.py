"""A pipeline on a device that is too small for all of it.

A new strength of an open edit needs the transformer's blocks and the VAE. The text encoders are needed when an edit is
opened; the modulation layers too, at its first frame, where the slider's offsets are added after them (the paper's
place), for an engine keeps what they answer (`engine/prepared.py`). Of the 12-billion transformer they are 27 %. What
is rarely needed stays in main memory and is lent to the device for the length of a call, by accelerate's hooks, so
every other use of the pipeline goes on working, slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from diffusers import FluxTransformer2DModel
from torch import nn

from .modulation import modulations

if TYPE_CHECKING:
    from .pipeline import KontextSliderPipeline


def modulation_layers(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    """The linear layers that turn a time and a pooled text into shifts, scales and gates."""
    return [getattr(owner, name).linear for owner, names in modulations(transformer) for name in names]


def place_sparingly(pipe: KontextSliderPipeline, device: torch.device) -> KontextSliderPipeline:
    """Move a pipeline from main memory to `device`, but for what an open edit can do without. Returns it.

    For a pipeline with its slider loaded, whose weights nothing has hooked; it cannot be moved again."""
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        cpu_offload(encoder, device)
    if pipe.slider_projector is not None and pipe.slider_projector.config.place == "text_stream":
        for layer in modulation_layers(pipe.transformer):
            add_hook_to_module(layer, AlignDevicesHook(device, offload=True, place_submodules=True))
    for part in (pipe.vae, pipe.transformer, pipe.slider_projector):
        if part is not None:
            _move_what_is_here(part, device)
    return pipe


def is_lent(module: nn.Module) -> bool:
    """Whether hooks of `place_sparingly` lend the module's weights to the device: the same arithmetic."""
    return isinstance(getattr(module, "_hf_hook", None), AlignDevicesHook)


def _move_what_is_here(part: nn.Module, device: torch.device) -> None:
    for module in part.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.device.type != "meta":
                tensor.data = tensor.data.to(device)
