"""The transformer's velocity, with everything done beforehand that the strengths of an edit share.

`FluxTransformer2DModel.forward` does the same work again for every strength and step: it embeds text and source, turns
positions into rotations, runs the modulation layers, and in its last block computes text and source tokens that nobody
reads. Here that is done once, or not at all; the rest is the same arithmetic with the same weights, within a rounding
(tests/engine/test_prepared.py holds the two against each other).

- Once per engine: `weights.Weights`, the blocks' layers, joined and merged with the slider's LoRA where that pays.
- Once per edit: `Prepared`, text and source as embedded tokens, rotations, embeddings of all steps' times and the text.
- Once per strength: `Prepared.table`, the answers of all modulation layers at all steps. They see no picture, so where
  offsets are added after them ("text_stream", the paper's place) even this is done once per edit.
- Per step: `Prepared.velocity`. What is equal for all frames of a batch has a batch of one until the frames part.

Legend: B frames (1 where equal for all), L target tokens, S source tokens, T text tokens, N = T + L + S, D width,
H heads, E = D / H, C channels of a packed token, R steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, rms_norm, scaled_dot_product_attention, silu

from ..projector import ModulationOffsets, Place
from .denoise import Conditioning
from .weights import Stream, Weights

NORM_EPS = 1e-6  # of all LayerNorms of the transformer
MOST_EXPLICIT = 1024  # keys, up to which a CPU multiplies attention out: in bfloat16 faster than torch's fused kernel

Parts = tuple[Tensor, ...]  # of one modulation: shift, scale, gate (twice in a double block), (B, D) each
Table = list[tuple[Parts, ...]]  # of one step: (image, text) of the double blocks, (all,) of the others, the end's last


@dataclass(frozen=True)
class Prepared:
    """One edit on one transformer: all that its strengths share."""

    transformer: FluxTransformer2DModel
    weights: Weights
    text: Tensor  # (1, T, D)
    source: Tensor  # (1, S, D)
    rotations: Tensor  # (N, 1, E / 2) complex
    embeddings: Tensor  # (R, D): of time, guidance and pooled text
    plain_tables: list[Table] | None  # without offsets, where the offsets come after the modulation layers

    @classmethod
    def of(
        cls,
        transformer: FluxTransformer2DModel,
        weights: Weights,
        edit: Conditioning,
        timesteps: Tensor,
        place: Place,
    ) -> Prepared:
        """An edit whose steps are at `timesteps` (R,), counted to 1000 as schedulers do."""
        ids = torch.cat([edit.text.ids, edit.noise_ids, edit.source.ids])
        cos, sin = transformer.pos_embed(ids)  # (N, E), every angle twice
        dtype = edit.noise.dtype
        times = (timesteps.to(dtype) / 1000) * 1000  # rounded as in the plain pipeline
        guidance = [] if edit.guidance is None else [edit.guidance.to(dtype).expand(len(times)) * 1000]
        embeddings = transformer.time_text_embed(times, *guidance, edit.text.pooled.expand(len(times), -1))
        return cls(
            transformer=transformer,
            weights=weights,
            text=transformer.context_embedder(edit.text.embeds).to(weights.dtype),
            source=transformer.x_embedder(edit.source.latents).to(weights.dtype),
            rotations=torch.complex(cos[:, None, ::2].float(), sin[:, None, ::2].float()),
            embeddings=embeddings,
            plain_tables=tables(transformer, embeddings[:, None], weights.dtype) if place == "text_stream" else None,
        )

    def of_targets(self, tokens: Tensor | None) -> Prepared:
        """The same edit with the target tokens of these numbers (M,) only; None: all."""
        if tokens is None:
            return self
        first, after = self.text.shape[1], len(self.rotations) - self.source.shape[1]
        text, target, source = self.rotations.tensor_split((first, after))
        return replace(self, rotations=torch.cat([text, target[tokens], source]))

    def table(self, offsets: ModulationOffsets) -> list[Table]:
        """What the modulation layers answer with `offsets` (B, D), step by step."""
        scale, shift = (offset.to(self.embeddings) for offset in offsets)
        if self.plain_tables is not None:
            pair = shift.to(self.weights.dtype), scale.to(self.weights.dtype)
            return [[_with_offsets(block, *pair) for block in table] for table in self.plain_tables]
        embeddings = (1 + scale) * self.embeddings[:, None] + shift  # (R, B, D)
        return tables(self.transformer, embeddings, self.weights.dtype)

    def velocity(self, latents: Tensor, table: Table) -> Tensor:
        """(B, L, C) -> (B, L, C), by the table of a step. Of the first step, `latents` may have a batch of one."""
        target = self.weights.image_in(latents.to(self.weights.dtype))
        image, text = _joined(target, self.source), self.text
        num_text, num_target = text.shape[1], target.shape[1]
        num_double = len(self.weights.double)
        *single, last, end = (parts for (parts,) in table[num_double:])
        for streams, pair in zip(self.weights.double, table[:num_double], strict=True):
            image, text = self._double(streams, image, text, pair)
        hidden = _joined(text, image)  # (B, N, D)
        *first, final = self.weights.single
        for stream, parts in zip(first, single, strict=True):
            hidden = self._single(stream, hidden, parts)
        hidden = self._single(final, hidden, last, slice(num_text, num_text + num_target))
        return self.weights.image_out(modulated(hidden, *end)).to(latents.dtype)

    def _double(self, streams: tuple[Stream, Stream], image: Tensor, text: Tensor, parts: Sequence[Parts]):
        """A double block: one attention over both streams, an MLP each. Returns image and text."""
        (of_image, of_text), (image_parts, text_parts) = streams, parts
        of_both = zip(
            self._heads(of_text, modulated(text, *text_parts[:2])),
            self._heads(of_image, modulated(image, *image_parts[:2])),
            strict=True,
        )
        queries, keys, values = (_joined(*pair) for pair in of_both)
        answer = attend(self._rotated(queries), self._rotated(keys), values)
        text_answer, image_answer = answer.split([text.shape[1], image.shape[1]], dim=1)
        return _finished(of_image, image, image_answer, image_parts), _finished(of_text, text, text_answer, text_parts)

    def _single(self, stream: Stream, hidden: Tensor, parts: Parts, wanted: slice = slice(None)) -> Tensor:
        """A single block; of the `wanted` tokens alone where nobody reads the others."""
        shift, scale, gate = parts
        normed = modulated(hidden, shift, scale)
        queries, keys, values = self._heads(stream, normed)
        answer = attend(self._rotated(queries)[:, wanted], self._rotated(keys), values)
        inner = gelu(stream.mlp_in(normed[:, wanted]), approximate="tanh")
        return torch.addcmul(hidden[:, wanted], gate[:, None], stream.out(torch.cat([answer, inner], dim=2)))

    def _heads(self, stream: Stream, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) -> normalised queries and keys, and values, (B, N, H, E)."""
        parts = stream.qkv(normed).unflatten(-1, (3, self.weights.heads, -1))
        both = rms_norm(parts[:, :, :2], parts.shape[-1:], eps=stream.eps) * stream.norms
        return both[:, :, 0], both[:, :, 1], parts[:, :, 2]

    def _rotated(self, x: Tensor) -> Tensor:
        """(B, N, H, E), each pair of values turned by its token's angles; the answer is float32."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * self.rotations).flatten(-2)


def tables(transformer: FluxTransformer2DModel, embeddings: Tensor, dtype: torch.dtype) -> list[Table]:
    """The answers of all modulation layers to embeddings (R, B, D), step by step, in `dtype`."""
    hidden, width = silu(embeddings), embeddings.shape[-1]

    def answers(layer: torch.nn.Linear) -> Tensor:
        return layer(hidden.to(layer.weight.dtype)).to(dtype).unflatten(-1, (-1, width)).movedim(-2, 1)

    blocks = [(answers(b.norm1.linear), answers(b.norm1_context.linear)) for b in transformer.transformer_blocks]
    single = [(answers(block.norm.linear),) for block in transformer.single_transformer_blocks]
    end = answers(transformer.norm_out.linear).flip(1)  # the library has the scale before the shift here
    steps = range(len(embeddings))
    return [
        [tuple(tuple(part[step].unbind(0)) for part in block) for block in [*blocks, *single, (end,)]] for step in steps
    ]


def _with_offsets(block: tuple[Parts, ...], shift: Tensor, scale: Tensor) -> tuple[Parts, ...]:
    """A step's answers of one block, the text stream's MLP offset; blocks without text are left alone."""
    if len(block) == 1:
        return block
    image, (first, second, third, shift_mlp, scale_mlp, gate_mlp) = block
    return image, (first, second, third, shift_mlp + shift, scale_mlp + scale, gate_mlp)


def _finished(stream: Stream, x: Tensor, answer: Tensor, parts: Parts) -> Tensor:
    """One stream of a double block after its attention."""
    _, _, gate_attention, shift, scale, gate = parts
    x = torch.addcmul(x, gate_attention[:, None], stream.out(answer))
    inner = gelu(stream.mlp_in(modulated(x, shift, scale)), approximate="tanh")
    assert stream.mlp_out is not None
    return torch.addcmul(x, gate[:, None], stream.mlp_out(inner))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm, times 1 + scale, plus shift, (B, D) each; one kernel where there is one frame."""
    if len(shift) == 1:
        return layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], NORM_EPS)
    return torch.addcmul(shift[:, None], layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale[:, None])


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of (B, M, H, E) over (B, N, H, E) -> (B, M, D), in the values' dtype."""
    q, k, v = (x.to(values.dtype).transpose(1, 2) for x in (queries, keys, values))
    if q.device.type == "cpu" and k.shape[2] <= MOST_EXPLICIT:
        answer = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
    else:
        answer = scaled_dot_product_attention(q, k, v)
    return answer.transpose(1, 2).flatten(2)


def _joined(first: Tensor, second: Tensor) -> Tensor:
    """Tokens after tokens; one that is equal for all frames is repeated where the other is not."""
    batch = max(len(first), len(second))
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in (first, second)], dim=1)
