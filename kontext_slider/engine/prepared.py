"""The transformer's velocity, with everything done beforehand that the strengths of an edit share.

`FluxTransformer2DModel.forward` does the same work again for every strength and step: it embeds text and source, turns
positions into rotations, runs the modulation layers, and in its last block computes text and source tokens that nobody
reads. Here that is done once, or not at all; the rest is the same arithmetic with the same weights, within a rounding
(tests/engine/test_prepared.py holds the two against each other).

- Once per engine: `weights.Weights`, the blocks' layers, joined and merged with the slider's LoRA where that pays.
- Once per edit: `Prepared`, text and source as embedded tokens, rotations, embeddings of all steps' times and the text.
- Once per strength: `Prepared.table`, the answers of all modulation layers at all steps. They see no picture, so where
  offsets are added after them ("text_stream", the paper's place) even this is done once per edit.
- Per step: `Prepared.velocity`, which asks the blocks (`blocks.py`) one after the other. What is equal for all frames
  of a batch has a batch of one until the frames part.

Legend: B frames (1 where equal for all), L target tokens, S source tokens, T text tokens, N = T + L + S, D width,
E = D / heads, C channels of a packed token, R steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.functional import silu

from ..base import family_of
from ..lora import slider_lora
from ..placement import modulation_layers
from ..projector import ModulationOffsets, Place
from .blocks import Parts, compiled_blocks, double_block, joined, modulated, single_block
from .denoise import Conditioning
from .weights import Weights

Table = list[tuple[Parts, ...]]  # of one step: (image, text) of the double blocks, (all,) of the others, the end's last


@dataclass(frozen=True)
class Prepared:
    """One edit on one transformer: all that its strengths share."""

    transformer: FluxTransformer2DModel
    weights: Weights
    text: Tensor  # (1, T, D)
    source: Tensor  # (1, S, D)
    rotations: Tensor  # (N, 1, E / 2) complex, or as real numbers (N, 1, E / 2, 2)
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
        rotations = torch.complex(cos[:, None, ::2].float(), sin[:, None, ::2].float())
        dtype = edit.noise.dtype
        times = (timesteps.to(dtype) / 1000) * 1000  # rounded as in the plain pipeline
        guidance = [] if edit.guidance is None else [edit.guidance.to(dtype).expand(len(times)) * 1000]
        with slider_lora(transformer, on=True):  # others than the blocks may have it, too
            embeddings = transformer.time_text_embed(times, *guidance, edit.text.pooled.expand(len(times), -1))
            return cls(
                transformer=transformer,
                weights=weights,
                text=transformer.context_embedder(edit.text.embeds).to(weights.dtype),
                source=transformer.x_embedder(edit.source.latents).to(weights.dtype),
                rotations=torch.view_as_real(rotations) if weights.compiled else rotations,
                embeddings=embeddings,
                plain_tables=tables(transformer, embeddings[:, None, None], weights.dtype)
                if place == "text_stream"
                else None,
            )

    def table(self, offsets: ModulationOffsets) -> list[Table]:
        """What the modulation layers answer with `offsets` (B, D or N D), step by step."""
        scale, shift = (offset.to(self.embeddings) for offset in offsets)
        if self.plain_tables is not None:
            pair = shift.to(self.weights.dtype), scale.to(self.weights.dtype)
            return [[_with_offsets(block, *pair) for block in table] for table in self.plain_tables]
        width = self.embeddings.shape[1]
        scale, shift = (part.unflatten(1, (-1, width)) for part in (scale, shift))  # (B, 1 or blocks, D)
        embeddings = (1 + scale) * self.embeddings[:, None, None] + shift
        if not any(isinstance(layer, LoraLayer) for layer in modulation_layers(self.transformer)):
            return tables(self.transformer, embeddings, self.weights.dtype)
        with slider_lora(self.transformer, on=True):  # it looks through the whole transformer, for every frame
            return tables(self.transformer, embeddings, self.weights.dtype)

    def velocity(self, latents: Tensor, table: Table) -> Tensor:
        """(B, L, C) -> (B, L, C), by the table of a step. Of the first step, `latents` may have a batch of one."""
        target = self.weights.image_in(latents.to(self.weights.dtype))
        image, text = joined(target, self.source), self.text
        num_text, num_target = text.shape[1], target.shape[1]
        num_double = len(self.weights.double)
        *single_parts, last, end = (parts for (parts,) in table[num_double:])
        double, single = compiled_blocks() if self.weights.compiled else (double_block, single_block)
        for streams, pair in zip(self.weights.double, table[:num_double], strict=True):
            image, text = double(streams, image, text, pair, self.rotations)
        hidden = joined(text, image)  # (B, N, D)
        *streams_before, final = self.weights.single
        for stream, parts in zip(streams_before, single_parts, strict=True):
            hidden = single(stream, hidden, parts, self.rotations)
        hidden = single(final, hidden, last, self.rotations, num_text, num_text + num_target)
        return self.weights.image_out(modulated(hidden, *end)).to(latents.dtype)


def tables(transformer: FluxTransformer2DModel, embeddings: Tensor, dtype: torch.dtype) -> list[Table]:
    """The answers of all modulation layers, step by step, in `dtype`. embeddings: (R, B, blocks or 1 for all, D)."""
    owners, width = family_of(transformer).modulation_sites(transformer, "every_block"), embeddings.shape[-1]
    hidden = silu(embeddings).expand(-1, -1, len(owners), -1).unbind(2)  # of each block, (R, B, D)

    def answers(layer: torch.nn.Linear, heard: Tensor) -> Tensor:
        return layer(heard.to(layer.weight.dtype)).to(dtype).unflatten(-1, (-1, width)).movedim(-2, 1)

    *blocks, (end,) = [
        tuple(answers(getattr(owner, name).linear, heard) for name in names)
        for (owner, names), heard in zip(owners, hidden, strict=True)
    ]
    blocks.append((end.flip(1),))  # the library has the scale before the shift here
    steps = range(len(embeddings))
    return [[tuple(tuple(part[step].unbind(0)) for part in block) for block in blocks] for step in steps]


def _with_offsets(block: tuple[Parts, ...], shift: Tensor, scale: Tensor) -> tuple[Parts, ...]:
    """A step's answers of one block, the text stream's MLP offset; blocks without text are left alone."""
    if len(block) == 1:
        return block
    image, (first, second, third, shift_mlp, scale_mlp, gate_mlp) = block
    return image, (first, second, third, shift_mlp + shift, scale_mlp + scale, gate_mlp)
