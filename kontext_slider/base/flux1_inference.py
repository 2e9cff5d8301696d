"""A private copy of the transformer for inference, whose layers read what `flux1_cached.py` computed before.

`FluxTransformer2DModel.forward` embeds text and source, turns positions into rotations and runs the modulation layers
for every strength and step. In the copy, wrappers in the place of those layers read the answers from the forward pass's
own arguments; the rest is the library's code. What is copied is the module tree, not the weights. The
original is never changed, so nothing is attached for a while and nothing has to be restored.

Legend: B frames (1 where equal for all), L target tokens, S source tokens, T text tokens, N = T + L + S, D width,
H heads, E = D / H, M rows of a step's modulation: a shift, scale or gate each.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import layer_norm, rms_norm, scaled_dot_product_attention

from ..lora import ADAPTER, slider_layers
from ..memory import is_offloaded, modulation_layers
from .flux1_kontext import Flux1Kontext

NORM_EPS = 1e-6  # of all LayerNorms of the transformer
MOST_SHAPES = 64  # of pictures and batches that one kind of block is compiled for
ADDED = ("to_out.0", "to_add_out", "net.2", "proj_out")  # layers whose answers are added to the hidden states
FUSED = {"to_qkv": ("to_q", "to_k", "to_v"), "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj")}


@dataclass(frozen=True)
class InferenceCopy:
    """A copy of a transformer whose forward pass takes embedded tokens, rotations and a row of the modulation table."""

    trunk: FluxTransformer2DModel  # with wrappers in the place of the layers below
    x_embedder: nn.Module
    context_embedder: nn.Module
    time_text_embed: nn.Module
    pos_embed: nn.Module
    modulation: tuple[nn.Module, ...]  # linear layers, in the order of the base model's sites
    compiled: bool


@torch.no_grad()
def inference_copy(
    transformer: FluxTransformer2DModel, fused: bool, dtype: torch.dtype | None = None, compiled: bool = False
) -> InferenceCopy:
    """A copy of a transformer that `can_be_copied`, the slider's LoRA active in it.

    Args:
        fused: merge the LoRA and join query, key and value, in weights of the copy's own. Else it has all weights in
            common with `transformer`, as it must where that is quantized.
        dtype: that the blocks' matrices multiply in, where `fused`; None for the transformer's own. float8_e4m3fn is
            computed by torchao, with a scale for each token and each row of a matrix.
        compiled: let torch compile the blocks when they first meet a shape.
    """
    # parameters of the copy's own that share their memory with the original's, and hooks, which hold weights
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in transformer.parameters()}
    hooks = [layer._hf_hook for layer in modulation_layers(transformer) if is_offloaded(layer)]
    trunk = copy.deepcopy(transformer, memo | {id(hook): hook for hook in hooks})
    if fused:
        _fuse(trunk)
        if dtype is not None:
            _narrow(trunk, dtype)
    for layer in slider_layers(trunk):
        layer.set_adapter(ADAPTER, inference_mode=True)
    inputs = {name: getattr(trunk, name) for name in ("x_embedder", "context_embedder", "time_text_embed", "pos_embed")}
    modulation = tuple(modulation_layers(trunk))
    _put_wrappers(trunk)
    if compiled:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
        trunk.compile_repeated_blocks(fullgraph=True)
    return InferenceCopy(trunk, **inputs, modulation=modulation, compiled=compiled)


def can_be_copied(transformer: nn.Module) -> bool:
    """Whether a copy computes what the transformer would: the library's own attention and no hook, cache, compilation
    or active adapter, but the slider's LoRA and hooks that offload a modulation layer."""
    if type(transformer) is not FluxTransformer2DModel or transformer.is_cache_enabled:
        return False
    if not transformer.transformer_blocks or not transformer.single_transformer_blocks:
        return False
    offloaded = {layer for layer in modulation_layers(transformer) if is_offloaded(layer)}
    for module in transformer.modules():
        if module not in offloaded and _is_hooked(module):
            return False
        if isinstance(module, LoraLayer):
            others = set() if module.disable_adapters else set(module.active_adapters) - {ADAPTER}
            if ADAPTER not in module.r or module.merged or others:
                return False
    return all(type(processor) is FluxAttnProcessor for processor in transformer.attn_processors.values())


def _is_hooked(module: nn.Module) -> bool:
    """By torch, accelerate or diffusers, whose hooks store weights in other dtypes or elsewhere."""
    registry = getattr(module, "_diffusers_hook", None)
    by_torch = module._forward_hooks or module._forward_pre_hooks
    return bool(by_torch or hasattr(module, "_hf_hook") or (registry and registry.hooks))


def _fuse(trunk: FluxTransformer2DModel) -> None:
    """Merge the slider's LoRA and join query, key and value."""
    if slider_layers(trunk):
        trunk.fuse_lora(adapter_names=[ADAPTER], safe_fusing=True)  # safe: in a copy of the weight
        trunk.unload_lora()
    trunk.fuse_qkv_projections()
    for attention in [module for module in trunk.modules() if isinstance(module, FluxAttention)]:
        for fused, parts in FUSED.items():
            for part in parts if hasattr(attention, fused) else ():
                delattr(attention, part)  # the library keeps them, in gigabytes


def _narrow(trunk: FluxTransformer2DModel, dtype: torch.dtype) -> None:
    """The blocks' matrices in `dtype`; what they are given is rounded to it, what is added up through the blocks is in
    the model's own."""
    added_in = trunk.dtype
    kept = modulation_layers(trunk)
    blocks = nn.ModuleList([*trunk.transformer_blocks, *trunk.single_transformer_blocks])
    layers = {m for m in blocks.modules() if isinstance(m, nn.Linear)} - set(kept)
    for layer in layers:
        layer.to(torch.bfloat16 if dtype is torch.float8_e4m3fn else dtype)
        layer.register_forward_pre_hook(lambda layer, given: (given[0].to(layer.weight.dtype),))
    for name, layer in blocks.named_modules():
        if name.endswith(ADDED):
            layer.register_forward_hook(lambda layer, given, answer: answer.to(added_in))
    if dtype is torch.float8_e4m3fn:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
        quantize_(blocks, config, filter_fn=lambda layer, name: layer in layers)


def _put_wrappers(trunk: FluxTransformer2DModel) -> None:
    device, first = trunk.x_embedder.weight.device, 0
    trunk.x_embedder = trunk.context_embedder = trunk.pos_embed = nn.Identity()
    trunk.time_text_embed = _GivenModulation()
    for owner, names in Flux1Kontext.modulation_sites(trunk):
        for name in names:
            layer = getattr(owner, name).linear
            rows = torch.arange(first, first + layer.out_features // layer.in_features, device=device)
            setattr(owner, name, _TableNorm(rows.flip(0) if name == "norm_out" else rows))  # its scale comes first
            first += len(rows)
    trunk.set_attn_processor(_Attention())
    trunk.single_transformer_blocks[-1] = _TargetTokens(trunk.single_transformer_blocks[-1])


class _GivenModulation(nn.Module):
    """For `time_text_embed`: what is given as the pooled text is a step's modulation, (M, B, D)."""

    def forward(self, timestep: Tensor, modulation: Tensor) -> Tensor:
        return modulation


class _TableNorm(nn.Module):
    """For a LayerNorm with modulation: it looks its rows up in a step's table."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, x: Tensor, emb: Tensor) -> Any:
        shift, scale, *others = emb[self.rows]  # (B, D) each
        if len(shift) == 1:  # one kernel
            x = layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], NORM_EPS)
        else:
            x = torch.addcmul(shift[:, None], layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale[:, None])
        return (x, *others) if others else x


class _TargetTokens(nn.Module):
    """For the last block: only its target tokens are computed; the others are there for their keys and values."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Tensor,
        joint_attention_kwargs: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        num_text, num_target = encoder_hidden_states.shape[1], joint_attention_kwargs["num_target"]
        others = torch.cat([encoder_hidden_states, hidden_states[:, num_target:]], dim=1)
        text, target, source = image_rotary_emb.tensor_split([num_text, num_text + num_target])
        return self.block(
            hidden_states=hidden_states[:, :num_target],
            encoder_hidden_states=encoder_hidden_states[:, :0],
            temb=temb,
            image_rotary_emb=torch.cat([target, text, source]),
            joint_attention_kwargs={"others": self.block.norm(others, emb=temb)[0]},
        )


class _Attention:
    """A processor for FluxAttention. Rotations: (N, E / 2) complex, or cosines and sines in pairs, (N, E)."""

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: None,
        image_rotary_emb: Tensor,
        num_target: int | None = None,  # for `_TargetTokens`
        others: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Answers for all tokens but `others` (B, T + S, D), which have keys and values alone."""
        image = hidden_states if others is None else torch.cat([hidden_states, others], dim=1)
        normed, values = _heads(attn, "to_qkv", image, attn.norm_q, attn.norm_k)
        if encoder_hidden_states is not None:
            text = _heads(attn, "to_added_qkv", encoder_hidden_states, attn.norm_added_q, attn.norm_added_k)
            normed, values = join_tokens(text[0], normed), join_tokens(text[1], values)
        queries, keys = _rotated(normed, image_rotary_emb).unbind(2)
        if others is not None:
            queries = queries[:, : hidden_states.shape[1]]
        q, k, v = (x.to(values.dtype).transpose(1, 2) for x in (queries, keys, values))
        answer = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # fused: logits are not rounded
        if encoder_hidden_states is None:
            return answer
        num_text = encoder_hidden_states.shape[1]
        return attn.to_out[0](answer[:, num_text:]), attn.to_add_out(answer[:, :num_text])


def _heads(attn: FluxAttention, name: str, x: Tensor, norm_q: nn.Module, norm_k: nn.Module) -> tuple[Tensor, Tensor]:
    """Normalised queries and keys, (B, N, 2, H, E), and values, (B, N, H, E)."""
    layers = [getattr(attn, part) for part in ([name] if hasattr(attn, name) else FUSED[name])]
    parts = torch.cat([layer(x) for layer in layers], dim=-1) if len(layers) > 1 else layers[0](x)
    parts = parts.unflatten(-1, (3, -1, attn.head_dim))
    weights = torch.stack([norm_q.weight, norm_k.weight])[:, None].to(parts.dtype)  # (2, 1, E)
    return rms_norm(parts[:, :, :2], parts.shape[-1:], eps=norm_q.eps) * weights, parts[:, :, 2]


def _rotated(x: Tensor, rotations: Tensor) -> Tensor:
    """(B, N, 2, H, E), each pair of values turned by its token's angle; the answer is float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if rotations.is_complex():
        return torch.view_as_real(torch.view_as_complex(pairs) * rotations[:, None, None]).flatten(-2)
    (a, b), (cos, sin) = pairs.unbind(-1), rotations[:, None, None].unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def join_tokens(first: Tensor, second: Tensor) -> Tensor:
    """Tokens after tokens; those equal for all frames are repeated where the others are not."""
    batch = max(len(first), len(second))
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in (first, second)], dim=1)
