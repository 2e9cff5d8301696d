"""A transformer whose blocks are kept in eight bits: half of their memory, and the first that small cards lack.

torchao keeps every matrix of the blocks as int8 with one scale a row, and multiplies in the model's own dtype ("weight
only"), the slider's LoRA beside it. The modulation layers stay as they are: an engine asks them once per edit, and
`placement.py` can lend them. For GPUs that lack the memory: a step takes half as long again.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn

from .errors import InvalidInput

if TYPE_CHECKING:
    from diffusers import PipelineQuantizationConfig

KINDS = ("int8",)
KEPT = ["norm1", "norm1_context", "norm", "norm_out"]  # the modulation layers, by the library's names


def quantization_config(kind: str) -> PipelineQuantizationConfig:
    """What `from_pretrained` takes as `quantization_config`.

    Raises InvalidInput for a kind that is not in KINDS, or where torchao is not installed."""
    if kind not in KINDS:
        raise InvalidInput(f"Weights can be quantized to {', '.join(KINDS)}, not to {kind!r}.")
    if find_spec("torchao") is None:
        raise InvalidInput("Quantized weights need the package torchao, which is not installed: pip install torchao")
    from diffusers import PipelineQuantizationConfig, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    int8 = Int8WeightOnlyConfig(set_inductor_config=False)  # whose tuning takes minutes, of all that is compiled later
    config = TorchAoConfig(int8, modules_to_not_convert=KEPT)
    return PipelineQuantizationConfig(quant_mapping={"transformer": config})


def is_quantized(module: nn.Module) -> bool:
    """Whether a model was loaded with a quantization config, of any library's."""
    return getattr(module, "is_quantized", False)


def cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Bring a model to `dtype` in place, but for its quantized weights."""
    for tensor in (*module.parameters(), *module.buffers()):
        if type(tensor.data) is torch.Tensor and tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
