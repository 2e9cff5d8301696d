"""A pipeline on a device that is too small for all of it.

A new strength of an open edit needs the transformer's blocks and the VAE. The text encoders are needed when an edit is
opened; the modulation layers too, at its first frame, where the slider's offsets are added after them (the paper's
place), for an engine keeps what they answer (`engine/prepared.py`). Of the 12-billion transformer they are 27 %. What
is rarely needed stays in main memory and is lent to the device for the length of a call, by accelerate's hooks, so
every other use of the pipeline goes on working, slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from .base import family_of

if TYPE_CHECKING:
    from .pipeline import KontextSliderPipeline

WORKING_BYTES = 8 * 1024**3  # that frames of the 12-billion model are computed in, eight at once at 1024 pixels


def modulation_layers(transformer: nn.Module) -> list[nn.Module]:
    """The linear layers that turn a time and a pooled text into shifts, scales and gates."""
    sites = family_of(transformer).modulation_sites(transformer, "every_block")
    return [getattr(owner, name).linear for owner, names in sites for name in names]


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


def has_room(transformer: nn.Module) -> bool:
    """Whether copies of the blocks' matrices fit beside them, and nobody asked to spare the device's memory."""
    device, modulating = transformer.device, modulation_layers(transformer)
    if device.type != "cuda":
        return device.type == "cpu"
    if any(is_lent(layer) for layer in modulating):
        return False
    copies = _num_bytes([transformer]) - _num_bytes(modulating)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused > copies + WORKING_BYTES


def _num_bytes(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


def _move_what_is_here(part: nn.Module, device: torch.device) -> None:
    for module in part.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.device.type != "meta":
                tensor.data = tensor.data.to(device)
