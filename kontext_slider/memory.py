"""Memory: a pipeline on a device that is too small for all of it.

Offloading. A new strength of an open edit needs the transformer's blocks and the VAE. Text encoders are needed when an
edit is opened, the modulation layers (27 % of the 12-billion transformer) at its first frame, as an engine keeps their
answers for the paper's place of offsets. With low VRAM both stay in main memory, and accelerate's hooks move them to
the device for the length of a call, so every other use of the pipeline goes on working, slower.

int8. torchao keeps every matrix of the transformer's blocks as int8 with one scale for each row, and multiplies in the
model's own dtype ("weight only"), the slider's LoRA beside it: half of the blocks' memory; a step takes half as long
again. The modulation layers stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from .base import family_of, modulation_names
from .edit import QUANTIZATIONS
from .errors import InvalidInput

if TYPE_CHECKING:
    from diffusers import PipelineQuantizationConfig

    from .pipeline import KontextSliderPipeline

WORKING_BYTES = 8 * 1024**3  # that frames of the 12-billion model are computed in, eight at once at 1024 pixels


def modulation_layers(transformer: nn.Module) -> list[nn.Module]:
    """The linear layers that turn a time and a pooled text into shifts, scales and gates."""
    sites = family_of(transformer).modulation_sites(transformer)
    return [getattr(owner, name).linear for owner, names in sites for name in names]


def place_with_low_vram(pipe: KontextSliderPipeline, device: torch.device) -> KontextSliderPipeline:
    """Move a pipeline from main memory to `device`, except what an open edit does not need. Returns it.

    For a pipeline with its slider loaded and without hooks on its weights; it cannot be moved again."""
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        cpu_offload(encoder, device)
    if pipe.slider_projector is not None and pipe.slider_projector.config.place == "text_stream":
        for layer in modulation_layers(pipe.transformer):
            add_hook_to_module(layer, AlignDevicesHook(device, offload=True, place_submodules=True))
    for part in (pipe.vae, pipe.transformer, pipe.slider_projector):
        if part is not None:
            _move_loaded(part, device)
    return pipe


def is_offloaded(module: nn.Module) -> bool:
    """Whether hooks of `place_with_low_vram` move the module's weights to the device for each call."""
    return isinstance(getattr(module, "_hf_hook", None), AlignDevicesHook)


def has_room(transformer: nn.Module) -> bool:
    """Whether copies of the blocks' matrices fit beside them; never on a pipeline that is placed with low VRAM."""
    device, modulating = transformer.device, modulation_layers(transformer)
    if device.type != "cuda":
        return device.type == "cpu"
    if any(is_offloaded(layer) for layer in modulating):
        return False
    copies = _num_bytes([transformer]) - _num_bytes(modulating)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused > copies + WORKING_BYTES


def _num_bytes(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.nbytes for module in modules for parameter in module.parameters())


def _move_loaded(part: nn.Module, device: torch.device) -> None:
    for module in part.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.device.type != "meta":
                tensor.data = tensor.data.to(device)


def quantization_config(kind: str) -> PipelineQuantizationConfig:
    """What `from_pretrained` takes as `quantization_config`.

    Raises InvalidInput for a kind that is not in QUANTIZATIONS, or where torchao is not installed."""
    if kind not in QUANTIZATIONS:
        raise InvalidInput(f"Weights can be quantized to {', '.join(QUANTIZATIONS)}, not to {kind!r}.")
    if find_spec("torchao") is None:
        raise InvalidInput("Quantized weights need the package torchao, which is not installed: pip install torchao")
    from diffusers import PipelineQuantizationConfig, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    int8 = Int8WeightOnlyConfig(set_inductor_config=False)  # whose tuning takes minutes, of all that is compiled later
    config = TorchAoConfig(int8, modules_to_not_convert=modulation_names())
    return PipelineQuantizationConfig(quant_mapping={"transformer": config})


def is_quantized(module: nn.Module) -> bool:
    """Whether a model was loaded with a quantization config, of any library's."""
    return getattr(module, "is_quantized", False)


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Bring a model to `dtype` in place, but for its quantized weights."""
    for tensor in (*module.parameters(), *module.buffers()):
        if type(tensor.data) is torch.Tensor and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
