"""The method from its facts alone: plain tensors and arithmetic, nothing of this package, of diffusers or of peft.

A FLUX transformer as a function of its state dict, the LoRA merged into the weights as W + B A, the released
projector, and an Euler loop. It is slow and straight so that it can be checked by eye; the pipeline is held to it.

Legend: B batch, T text tokens, S image tokens (target, then source), N = T + S, D width, H heads, A width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Edit:
    """All that the denoising of one edit needs."""

    embeds: Tensor  # (1, T, text width)
    pooled: Tensor  # (1, pooled width)
    source: Tensor  # (1, C, h, w), latents as the VAE's scale and shift leave them
    noise: Tensor  # (1, h/2 * w/2, 4 C), packed
    steps: int
    guidance: float


@dataclass(frozen=True)
class Shape:
    """What a state dict does not tell."""

    heads: int
    axes: tuple[int, int, int]


def merged(base: Weights, lora: Weights) -> Weights:
    """The base weights with the LoRA of a file in them; alpha equals the rank, so the factor is one."""
    weights = dict(base)
    for name in lora:
        if name.endswith(".lora_A.weight"):
            layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
            update = lora[name.replace("lora_A", "lora_B")] @ lora[name]
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + update
    return weights


def project(w: Weights, strength: float, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """(scale, shift) offsets, (1, D) each, from the released file's tensors."""
    encoded = torch.tensor([[math.sin(math.pi * strength), math.cos(math.pi * strength)]])
    x = torch.cat([linear(w, "pe_extender", encoded), pooled], dim=1)
    for layer in (0, 2, 4):
        x = linear(w, f"projector.{layer}", x).clamp(min=0)
    x = linear(w, "projector.6", x)
    half = x.shape[1] // 2
    return x[:, :half], x[:, half:]


def denoise(w: Weights, shape: Shape, edit: Edit, offsets: tuple[Tensor, Tensor] | None) -> Tensor:
    """Packed latents after the last step; `offsets` None: the base model alone."""
    rows, columns = edit.source.shape[2] // 2, edit.source.shape[3] // 2
    source = pack(edit.source)
    ids = torch.cat([torch.zeros(edit.embeds.shape[1], 3), grid(0, rows, columns), grid(1, rows, columns)])
    sigmas = schedule(edit.steps, rows * columns)
    x = edit.noise
    for sigma, after in zip(sigmas, sigmas[1:], strict=False):
        tokens = torch.cat([x, source], dim=1)
        velocity = forward(w, shape, tokens, edit, sigma, ids, offsets)[:, : x.shape[1]]
        x = x + (after - sigma) * velocity
    return x


def schedule(steps: int, num_tokens: int) -> list[float]:
    """Sigmas from 1 down to 0, shifted by the number of target tokens (0.5 at 256, 1.15 at 4096)."""
    mu = 0.5 + (1.15 - 0.5) * (num_tokens - 256) / (4096 - 256)
    even = [1 + (1 / steps - 1) * i / max(steps - 1, 1) for i in range(steps)]
    return [math.exp(mu) / (math.exp(mu) + 1 / s - 1) for s in even] + [0.0]


def forward(w: Weights, shape: Shape, tokens: Tensor, edit: Edit, sigma: float, ids: Tensor, offsets) -> Tensor:
    """Velocity of every image token, (1, S, 4 C)."""
    vector = (
        mlp_embed(w, "time_text_embed.timestep_embedder", sinusoid(1000 * sigma))
        + mlp_embed(w, "time_text_embed.guidance_embedder", sinusoid(1000 * edit.guidance))
        + mlp_embed(w, "time_text_embed.text_embedder", edit.pooled)
    )
    rotation = rotations(ids, shape.axes)
    image, text = linear(w, "x_embedder", tokens), linear(w, "context_embedder", edit.embeds)
    for block in range(count(w, "transformer_blocks")):
        image, text = double_block(w, f"transformer_blocks.{block}", shape, image, text, vector, rotation, offsets)
    stream = torch.cat([text, image], dim=1)  # (1, N, D)
    for block in range(count(w, "single_transformer_blocks")):
        stream = single_block(w, f"single_transformer_blocks.{block}", shape, stream, vector, rotation)
    scale, shift = linear(w, "norm_out.linear", F.silu(vector)).chunk(2, dim=1)
    return linear(w, "proj_out", modulated(stream[:, text.shape[1] :], scale, shift))


def double_block(w, at, shape, image, text, vector, rotation, offsets):
    i_shift1, i_scale1, i_gate1, i_shift2, i_scale2, i_gate2 = modulation(w, f"{at}.norm1.linear", vector, 6)
    t_shift1, t_scale1, t_gate1, t_shift2, t_scale2, t_gate2 = modulation(w, f"{at}.norm1_context.linear", vector, 6)
    if offsets is not None:  # the slider: the text stream's MLP, nothing else
        t_scale2, t_shift2 = t_scale2 + offsets[0], t_shift2 + offsets[1]
    i, t = modulated(image, i_scale1, i_shift1), modulated(text, t_scale1, t_shift1)
    q, k, v = (heads(linear(w, f"{at}.attn.to_{name}", i), shape.heads) for name in "qkv")
    tq, tk, tv = (heads(linear(w, f"{at}.attn.add_{name}_proj", t), shape.heads) for name in "qkv")
    q, k = rms(q, w[f"{at}.attn.norm_q.weight"]), rms(k, w[f"{at}.attn.norm_k.weight"])
    tq, tk = rms(tq, w[f"{at}.attn.norm_added_q.weight"]), rms(tk, w[f"{at}.attn.norm_added_k.weight"])
    pairs = ((tq, q), (tk, k), (tv, v))
    mixed = attention(*(torch.cat(pair, dim=2) for pair in pairs), rotation)  # (1, N, D)
    text_out, image_out = mixed[:, : text.shape[1]], mixed[:, text.shape[1] :]
    image = image + i_gate1[:, None] * linear(w, f"{at}.attn.to_out.0", image_out)
    text = text + t_gate1[:, None] * linear(w, f"{at}.attn.to_add_out", text_out)
    image = image + i_gate2[:, None] * mlp(w, f"{at}.ff", modulated(image, i_scale2, i_shift2))
    text = text + t_gate2[:, None] * mlp(w, f"{at}.ff_context", modulated(text, t_scale2, t_shift2))
    return image, text


def single_block(w, at, shape, stream, vector, rotation):
    shift, scale, gate = modulation(w, f"{at}.norm.linear", vector, 3)
    x = modulated(stream, scale, shift)
    q, k, v = (heads(linear(w, f"{at}.attn.to_{name}", x), shape.heads) for name in "qkv")
    q, k = rms(q, w[f"{at}.attn.norm_q.weight"]), rms(k, w[f"{at}.attn.norm_k.weight"])
    hidden = gelu(linear(w, f"{at}.proj_mlp", x))
    both = torch.cat([attention(q, k, v, rotation), hidden], dim=2)
    return stream + gate[:, None] * linear(w, f"{at}.proj_out", both)


def linear(w: Weights, at: str, x: Tensor) -> Tensor:
    return x @ w[f"{at}.weight"].T + w[f"{at}.bias"]


def mlp(w: Weights, at: str, x: Tensor) -> Tensor:
    return linear(w, f"{at}.net.2", gelu(linear(w, f"{at}.net.0.proj", x)))


def mlp_embed(w: Weights, at: str, x: Tensor) -> Tensor:
    return linear(w, f"{at}.linear_2", F.silu(linear(w, f"{at}.linear_1", x)))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def modulation(w: Weights, at: str, vector: Tensor, parts: int) -> tuple[Tensor, ...]:
    return linear(w, at, F.silu(vector)).chunk(parts, dim=1)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return normal * (1 + scale[:, None]) + shift[:, None]


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-6).sqrt() * weight


def heads(x: Tensor, num_heads: int) -> Tensor:
    """(1, N, D) -> (1, H, N, A)"""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """(1, H, N, A) -> (1, N, D)"""
    q, k = rotated(q, rotation), rotated(k, rotation)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def rotations(ids: Tensor, axes: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """cos and sin, (N, A / 2) each: every axis turns its share of the channel pairs by its position."""
    angles = []
    for axis, width in enumerate(axes):
        speeds = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles.append(ids[:, axis].double()[:, None] * speeds)
    angle = torch.cat(angles, dim=1)
    return angle.cos().float(), angle.sin().float()


def rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def sinusoid(value: float) -> Tensor:
    """256 values of a time, cosines first. (1, 256)"""
    angle = value * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    return torch.cat([angle.cos(), angle.sin()])[None]


def pack(latents: Tensor) -> Tensor:
    """(1, C, h, w) -> (1, h/2 * w/2, 4 C)"""
    _, channels, height, width = latents.shape
    tiles = latents.reshape(1, channels, height // 2, 2, width // 2, 2)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(1, -1, channels * 4)


def grid(first: int, rows: int, columns: int) -> Tensor:
    """Position ids (first, row, column), row by row. (rows * columns, 3)"""
    return torch.tensor([[first, row, column] for row in range(rows) for column in range(columns)], dtype=torch.float32)


def count(w: Weights, name: str) -> int:
    return 1 + max(int(key.split(".")[1]) for key in w if key.startswith(f"{name}."))
