"""Sliders inside the attention of the base model.

Legend: H heads, E width of a head, N = T + L + S tokens in this order: text, target, source; queries, keys and values
(1, H, N, E).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from kontext_slider.base_edit import BaseEdit
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines.method import ByVelocity, VelocityAt

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # (query, key, value) -> (1, H, N, E)


class _Attention(TorchFunctionMode):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend, self.num_calls = attend, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is not scaled_dot_product_attention:
            return function(*args, **kwargs)
        self.num_calls += 1
        query, key, value = args or (kwargs["query"], kwargs["key"], kwargs["value"])
        return self.attend(query, key, value)


@contextmanager
def attention_as(attend: Attend) -> Iterator[None]:
    """`attend` in the place of torch's `scaled_dot_product_attention`, which diffusers' native attention calls with
    keys that are normalised and rotated. Nothing of the transformer changes.

    Raises InvalidInput where the transformer's attention is another one."""
    mode = _Attention(attend)
    with mode:
        yield
    if not mode.num_calls:
        raise InvalidInput(
            "The transformer's attention is not torch's own, so it cannot be changed. Call "
            "transformer.set_attention_backend('native')."
        )


@dataclass(frozen=True, kw_only=True)
class AttentionReweighting(ByVelocity):
    """The target tokens' attention to the text tokens, scaled; 1 is the base model's edit. Table 3 of the paper, after
    Prompt-to-Prompt (arXiv 2208.01626), which scales the weights after the softmax.

    before_softmax: the scale's logarithm is added to the logits instead, so that weights still sum to 1.
    """

    end: float = 1.5
    before_softmax: bool = True

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        num_text, num_target = edit.text.embeds.shape[1], edit.noise.latents.shape[1]

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
                return reweighted(query, key, value, num_text, num_target, scale, self.before_softmax)

            with attention_as(attend):
                return edit.velocity(z, sigma, edit.text)

        return velocity


def reweighted(
    query: Tensor, key: Tensor, value: Tensor, num_text: int, num_target: int, scale: float, before_softmax: bool
) -> Tensor:
    """Attention whose weights from target to text tokens are multiplied by `scale`, as in AttentionReweighting."""
    target = query[:, :, num_text : num_text + num_target]
    weights = query.new_ones(key.shape[2])
    weights[:num_text] = scale
    if before_softmax:
        scaled = scaled_dot_product_attention(target, key, value, attn_mask=weights.clamp_min(1e-6).log()[None])
    else:
        scaled = scaled_dot_product_attention(target, key, weights[:, None] * value)
    answer = scaled_dot_product_attention(query, key, value)
    return torch.cat([answer[:, :, :num_text], scaled, answer[:, :, num_text + num_target :]], dim=2)


@dataclass(frozen=True, kw_only=True)
class Grag(ByVelocity):
    """Group-relative attention guidance (arXiv 2510.24657): source keys k' = lambda mean(k) + delta (k - mean(k)).
    The scale is delta; more keeps more of the source. With both at 1 it is the base model's edit. The authors use .8 to
    1.7.

    mean_scale: lambda."""

    start: float = 1.28
    end: float = 1.05
    mean_scale: float = 1.15

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        num_source = edit.source.latents.shape[1]

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
                others, source = key[:, :, :-num_source], key[:, :, -num_source:]
                guided = group_relative(source, self.mean_scale, scale)
                return scaled_dot_product_attention(query, torch.cat([others, guided], dim=2), value)

            with attention_as(attend):
                return edit.velocity(z, sigma, edit.text)

        return velocity


def group_relative(keys: Tensor, mean_scale: float, delta: float) -> Tensor:
    """Keys of a group of tokens, their mean and their differences to it scaled."""
    mean = keys.mean(dim=2, keepdim=True)
    return mean_scale * mean + delta * (keys - mean)
