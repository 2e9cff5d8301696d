"""The arithmetic of one block of the transformer, as functions of tensors alone, which a compiler can fuse.

What is equal for all frames of a batch may have a batch of one.

Legend: B frames, L target tokens, S source tokens, T text tokens, N = T + L + S, D width, H heads, E = D / H.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, rms_norm, scaled_dot_product_attention

from .weights import Stream

NORM_EPS = 1e-6  # of all LayerNorms of the transformer
MOST_SHAPES = 64  # of pictures, batches and kinds of layers, that one block is compiled for

Parts = tuple[Tensor, ...]  # of one modulation: shift, scale, gate (twice in a double block), (B, D) each


def double_block(
    streams: tuple[Stream, Stream], image: Tensor, text: Tensor, parts: Sequence[Parts], rotations: Tensor
) -> tuple[Tensor, Tensor]:
    """One attention over both streams, an MLP each: image (B, L + S, D) and text (B, T, D), in and out."""
    (of_image, of_text), (image_parts, text_parts) = streams, parts
    of_both = zip(
        heads(of_text, modulated(text, *text_parts[:2])),
        heads(of_image, modulated(image, *image_parts[:2])),
        strict=True,
    )
    asked, values = (joined(*pair) for pair in of_both)
    queries, keys = rotated(asked, rotations).unbind(2)
    answer = attend(queries, keys, values)
    text_answer, image_answer = answer.split([text.shape[1], image.shape[1]], dim=1)
    return _finished(of_image, image, image_answer, image_parts), _finished(of_text, text, text_answer, text_parts)


def single_block(
    stream: Stream, hidden: Tensor, parts: Parts, rotations: Tensor, first: int = 0, last: int | None = None
) -> Tensor:
    """Attention and MLP side by side, (B, N, D) -> (B, N, D); of the tokens from `first` to `last` alone where nobody
    reads the others."""
    shift, scale, gate = parts
    normed = modulated(hidden, shift, scale)
    asked, values = heads(stream, normed)
    queries, keys = rotated(asked, rotations).unbind(2)
    answer = attend(queries[:, first:last], keys, values)
    inner = gelu(stream.mlp_in(normed[:, first:last]), approximate="tanh")
    return added(hidden[:, first:last], gate, stream.out(torch.cat([answer, inner], dim=2)))


@cache
def compiled_blocks() -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Tensor]]:
    """Both, compiled by torch when they first meet a shape; one program serves all blocks of a kind."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    return torch.compile(double_block, fullgraph=True), torch.compile(single_block, fullgraph=True)


def _finished(stream: Stream, x: Tensor, answer: Tensor, parts: Parts) -> Tensor:
    """One stream of a double block after its attention."""
    _, _, gate_attention, shift, scale, gate = parts
    x = added(x, gate_attention, stream.out(answer))
    inner = gelu(stream.mlp_in(modulated(x, shift, scale)), approximate="tanh")
    assert stream.mlp_out is not None
    return added(x, gate, stream.mlp_out(inner))


def added(hidden: Tensor, gate: Tensor, answer: Tensor) -> Tensor:
    """What a block adds, in the dtype of the hidden states: they are summed up through all blocks. gate: (B, D)."""
    return torch.addcmul(hidden, gate[:, None], answer.to(hidden.dtype))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm, times 1 + scale, plus shift, (B, D) each; one kernel where there is one frame."""
    if len(shift) == 1:
        return layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], NORM_EPS)
    return torch.addcmul(shift[:, None], layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale[:, None])


def heads(stream: Stream, normed: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N, D) -> normalised queries and keys, (B, N, 2, H, E), and values, (B, N, H, E)."""
    parts = stream.qkv(normed).unflatten(-1, (3, -1, stream.norms.shape[-1]))
    return rms_norm(parts[:, :, :2], parts.shape[-1:], eps=stream.eps) * stream.norms, parts[:, :, 2]


def rotated(x: Tensor, rotations: Tensor) -> Tensor:
    """(B, N, 2, H, E), each pair of values turned by its token's angle; the answer is float32.

    rotations: (N, 1, E / 2) complex, or the real and imaginary parts of that, (N, 1, E / 2, 2), for compilers."""
    pairs, rotations = x.float().unflatten(-1, (-1, 2)), rotations[:, None]
    if rotations.is_complex():
        return torch.view_as_real(torch.view_as_complex(pairs) * rotations).flatten(-2)
    (a, b), (cos, sin) = pairs.unbind(-1), rotations.unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of (B, M, H, E) over (B, N, H, E) -> (B, M, D), in the values' dtype.

    Fused: a product and a softmax of one's own would round bfloat16 logits, most of what such frames are off by."""
    q, k, v = (x.to(values.dtype).transpose(1, 2) for x in (queries, keys, values))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Tokens after tokens; one that is equal for all frames is repeated where the other is not."""
    batch = max(len(first), len(second))
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in (first, second)], dim=1)
