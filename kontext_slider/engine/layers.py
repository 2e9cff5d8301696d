"""Linear layers as the prepared denoiser asks them: the library's own, or copies that are joined, merged and narrower.

Copies hold the slider's LoRA in their weights, several side by side are one product, and they may multiply in another
dtype than the model's. In eight bits (float8, e4m3) every row of a weight and every token has a scale of its own, and
what a layer answers is rounded as the model's own answers are: two thirds of bfloat16's time on a GPU that has such
products (compute capability 8.9 on), and a compiler's work, since every token is measured first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear

from ..lora import ADAPTER

EIGHT_BITS = torch.float8_e4m3fn
LARGEST = torch.finfo(EIGHT_BITS).max

Layer = Callable[[Tensor], Tensor]  # (..., in) -> (..., out)
SideBySide = Callable[..., Layer]  # (*layers) -> one layer that answers what they answer, one after the other


@dataclass(frozen=True)
class Dense:
    """A linear layer as its weight (out, in) and bias (out,); what it is given is rounded to their dtype."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x.to(self.weight.dtype), self.weight, self.bias)


@dataclass(frozen=True)
class EightBits:
    """A linear layer whose weight (out, in) has eight bits and a scale a row (out, 1), as what it is given has one a
    token; bias (out,)."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layer: Dense) -> EightBits:
        """Widths are multiples of 16."""
        return cls(*in_eight_bits(layer.weight), None if layer.bias is None else layer.bias.bfloat16())

    def __call__(self, x: Tensor) -> Tensor:
        tokens, scale = in_eight_bits(x.flatten(0, -2))
        answer = torch._scaled_mm(  # scaled_mm, its public form, cannot be compiled in torch 2.11
            tokens, self.weight.t(), scale, self.scale.t(), self.bias, out_dtype=torch.bfloat16, use_fast_accum=True
        )
        return answer.to(x.dtype).unflatten(0, x.shape[:-1])


def in_eight_bits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, N) and their scales (M, 1), float32: the largest of each row is the largest that eight bits have."""
    rows = rows.float()
    scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (rows / scale).to(EIGHT_BITS), scale


@dataclass(frozen=True)
class WithLora:
    """A layer of the library's, and the slider's LoRA, down (r, in) and up (out, r), added to what it answers in one
    product, whether or not it is switched on."""

    base: nn.Module
    down: Tensor
    up: Tensor
    scale: float

    @classmethod
    def of(cls, layer: LoraLayer) -> WithLora:
        down, up = (part[ADAPTER].weight for part in (layer.lora_A, layer.lora_B))
        return cls(layer.get_base_layer(), down, up, layer.scaling[ADAPTER])

    def __call__(self, x: Tensor) -> Tensor:
        answer, low = self.base(x), linear(x.to(self.down.dtype), self.down).to(x.dtype)
        both = answer.flatten(0, -2).addmm_(low.flatten(0, -2), self.up.t().to(x.dtype), alpha=self.scale)
        return both.unflatten(0, x.shape[:-1])


def as_they_are(*layers: nn.Module) -> Layer:
    """The library's layers, quantisation and all, with the slider's LoRA."""
    asked = [WithLora.of(layer) if isinstance(layer, LoraLayer) else layer for layer in layers]
    return asked[0] if len(asked) == 1 else lambda x: torch.cat([layer(x) for layer in asked], dim=-1)


def copied(dtype: torch.dtype) -> SideBySide:
    """Layers as one copy that multiplies in `dtype`, EIGHT_BITS or what tensors are added in."""
    return lambda *layers: _narrowed(_join([_merged(layer) for layer in layers]), dtype)


def _merged(layer: nn.Module) -> Dense:
    """A linear layer, with the slider's LoRA, if it has one, added to a copy of its weight."""
    if not isinstance(layer, LoraLayer):
        return Dense(layer.weight, layer.bias)
    base = layer.get_base_layer()
    return Dense(base.weight + layer.get_delta_weight(ADAPTER).to(base.weight), base.bias)


def _join(layers: Sequence[Dense]) -> Dense:
    if len(layers) == 1:
        return layers[0]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return Dense(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)


def _narrowed(layer: Dense, dtype: torch.dtype) -> Layer:
    if dtype is EIGHT_BITS:
        return EightBits.of(layer)
    return Dense(layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))
