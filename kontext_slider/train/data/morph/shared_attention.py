"""Self-attention across the rows of a batch, for FreeMorph: the pictures in between look at those at both ends.

Legend: J rows, the first and the last being the ends; s their strengths (J,), 0 first and 1 last; N tokens, h heads,
d width of a head; queries, keys and values (J, h, N, d).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from kontext_slider.train.data.morph.sphere import slerp


class Look(Enum):
    """What the rows in between look at; the ends always look at themselves.

    SELF: at themselves. PRIOR: at the mean of all rows' keys and values. BLEND: at the ends' keys and values, blended
    on the sphere by strength. TREND: at either end by itself, and the two answers are mixed by strength."""

    SELF = "self"
    PRIOR = "prior"
    BLEND = "blend"
    TREND = "trend"


@dataclass
class Gaze:
    """What all layers do at the moment; the caller sets `look` between two steps."""

    strengths: Tensor  # (J,)
    look: Look = Look.SELF

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The answers of all rows, (J, h, N, d)."""
        own = attend(query, key, value)
        if self.look is Look.SELF or len(query) < 3:
            return own
        s = self.strengths[1:-1, None, None, None].to(query.dtype)
        return torch.cat([own[:1], _BETWEEN[self.look](query[1:-1], key, value, s), own[-1:]])


def _prior(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    return attend(query, _rows(key.mean(0, keepdim=True), query), _rows(value.mean(0, keepdim=True), query))


def _blend(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    return attend(query, slerp(key[:1], key[-1:], s), slerp(value[:1], value[-1:], s))


def _trend(query: Tensor, key: Tensor, value: Tensor, s: Tensor) -> Tensor:
    first, last = (attend(query, _rows(key[end], query), _rows(value[end], query)) for end in ([0], [-1]))
    return torch.lerp(first, last, s)


_BETWEEN = {Look.PRIOR: _prior, Look.BLEND: _blend, Look.TREND: _trend}


def _rows(features: Tensor, like: Tensor) -> Tensor:
    return features.expand(len(like), -1, -1, -1)


class SharedAttention:
    """A processor for the self-attention of a UNet's transformer blocks, which asks a Gaze."""

    def __init__(self, gaze: Gaze):
        self.gaze = gaze

    def __call__(self, attn: Attention, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        def heads(features: Tensor) -> Tensor:
            return features.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query, key, value = (heads(layer(hidden_states)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        answers = self.gaze.attend(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](answers))


@contextmanager
def shared_attention(unet: UNet2DConditionModel, gaze: Gaze) -> Iterator[None]:
    """All self-attention of the UNet through `gaze` inside the block; its own processors are put back afterwards."""
    before = unet.attn_processors
    shared = {name: SharedAttention(gaze) for name in before if name.endswith("attn1.processor")}
    unet.set_attn_processor({**before, **shared})
    try:
        yield
    finally:
        unet.set_attn_processor(before)
