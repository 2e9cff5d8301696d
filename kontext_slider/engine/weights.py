"""A transformer's blocks as the prepared denoiser multiplies with them: joined, merged, or the library's own layers.

Joined, query, key and value are one matrix, and the slider's LoRA is added to a copy of the weights: two small products
less for each layer, at the price of a second copy of the blocks. Not joined, the layers themselves are called,
quantised or not, with the LoRA beside them, and nothing is copied. Either way the transformer stays as it is, and a
plain call has nothing to undo.

Legend: D width, E = D / heads, C channels of a packed token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..lora import ADAPTER, slider_layers
from ..placement import is_lent, modulation_layers
from ..quantize import is_quantized
from .layers import EIGHT_BITS, Layer, SideBySide, as_they_are, copied


class Stream(NamedTuple):
    """The layers of one stream (image or text) of a double block, or of a single block."""

    qkv: Layer  # D -> 3 D
    norms: Tensor  # (2, 1, E): RMS weights of query and key
    eps: float
    out: Layer  # D -> D; in a single block attention and MLP together, 5 D -> D
    mlp_in: Layer  # D -> 4 D
    mlp_out: Layer | None  # 4 D -> D; None in a single block


@dataclass(frozen=True)
class Weights:
    """All that a velocity is computed with, but the modulation layers."""

    image_in: Layer  # C -> D
    double: tuple[tuple[Stream, Stream], ...]  # (image, text)
    single: tuple[Stream, ...]
    image_out: Layer  # D -> C
    dtype: torch.dtype  # of the hidden states
    compiled: bool  # the blocks' arithmetic, by torch

    @classmethod
    def of(
        cls,
        transformer: FluxTransformer2DModel,
        joined: bool,
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> Weights:
        """The layers of a transformer that `is_plain`.

        Args:
            joined: copy, join and merge; else the library's layers, as of a quantized transformer in any case.
            dtype: that the blocks' copies multiply in (`layers.py`); None for the transformer's own, which the hidden
                states and the layers before and after the blocks have in any case: a block's rounding does not go
                through the others.
            compiled: multiply by programs that torch makes for each size of pictures, when it first meets it."""
        joined = joined and not is_quantized(transformer)
        dtype = dtype if joined and dtype else transformer.dtype
        asked: SideBySide = copied(dtype) if joined else as_they_are
        outer: SideBySide = copied(transformer.dtype) if joined else as_they_are

        def stream(attention: nn.Module, qkv: str, norms: str, out, mlp_in, mlp_out=None) -> Stream:
            weights = [getattr(attention, name).weight for name in norms.split()]
            return Stream(
                qkv=asked(*(getattr(attention, name) for name in qkv.split())),
                norms=torch.stack(weights)[:, None].to(transformer.dtype if dtype is EIGHT_BITS else dtype),
                eps=attention.norm_q.eps,
                out=asked(out),
                mlp_in=asked(mlp_in),
                mlp_out=None if mlp_out is None else asked(mlp_out),
            )

        def double(block: nn.Module) -> tuple[Stream, Stream]:
            image, text, attention = block.ff.net, block.ff_context.net, block.attn
            names = "add_q_proj add_k_proj add_v_proj", "norm_added_q norm_added_k"
            return (
                stream(attention, "to_q to_k to_v", "norm_q norm_k", attention.to_out[0], image[0].proj, image[2]),
                stream(attention, *names, attention.to_add_out, text[0].proj, text[2]),
            )

        return cls(
            image_in=outer(transformer.x_embedder),
            double=tuple(double(block) for block in transformer.transformer_blocks),
            single=tuple(
                stream(block.attn, "to_q to_k to_v", "norm_q norm_k", block.proj_out, block.proj_mlp)
                for block in transformer.single_transformer_blocks
            ),
            image_out=outer(transformer.proj_out),
            dtype=transformer.dtype,
            compiled=compiled,
        )


def is_plain(transformer: nn.Module) -> bool:
    """Whether the prepared denoiser computes what the transformer would: nothing hooked, cached, compiled or adapted
    but the slider's LoRA, and hooks that lend a modulation layer its weights, and the library's own attention."""
    if type(transformer) is not FluxTransformer2DModel or transformer.is_cache_enabled:
        return False
    if not transformer.transformer_blocks or not transformer.single_transformer_blocks:
        return False
    lent = {layer for layer in modulation_layers(transformer) if is_lent(layer)}
    if any(_is_hooked(m) for m in transformer.modules() if m not in lent):
        return False
    if any(
        set(layer.active_adapters) - {ADAPTER} for layer in slider_layers(transformer) if not layer.disable_adapters
    ):
        return False
    if any(isinstance(m, LoraLayer) and (ADAPTER not in m.r or m.merged) for m in transformer.modules()):
        return False
    return all(type(processor) is FluxAttnProcessor for processor in transformer.attn_processors.values())


def _is_hooked(module: nn.Module) -> bool:
    """By torch, accelerate or diffusers, whose hooks store weights in other dtypes or elsewhere."""
    registry = getattr(module, "_diffusers_hook", None)
    by_torch = module._forward_hooks or module._forward_pre_hooks
    return bool(by_torch or hasattr(module, "_hf_hook") or (registry and registry.hooks))
