"""What the strengths of an edit share, computed once, and the transformer's velocity at any of them.

- Once per engine: `flux1_inference.py`, a copy of the transformer, the slider's LoRA merged where memory allows.
- Once per edit: `CachedModel.open`, text and source as embedded tokens, rotations, embeddings of all time steps.
- Once per strength: the modulation table, the answers of all modulation layers at all steps. They see no picture. For
  the paper's place ("text_stream") the offsets are added after them, so even the table is made once per edit.
- Per step: the velocity, by the library's forward pass.

Legend: B frames (1 where equal for all), L target tokens, S source tokens, T text tokens, N = T + L + S, D width,
E = D / heads, C channels of a packed token, R steps, M rows of the modulation table: a shift, scale or gate each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..memory import is_quantized
from . import Conditioning, ModulationOffsets, Place, Velocity
from .flux1_inference import InferenceCopy, can_be_copied, inference_copy, join_tokens

SHIFT_MLP, SCALE_MLP = 3, 4  # of the six rows of a stream of a double block


@dataclass(frozen=True, eq=False)
class CachedModel:
    """Opens edits on an inference copy."""

    copy: InferenceCopy

    @classmethod
    def of(cls, transformer: nn.Module, fused: bool, dtype: torch.dtype | None, compiled: bool) -> CachedModel | None:
        """See `base.fast_model`."""
        if not can_be_copied(transformer):
            return None
        return cls(inference_copy(transformer, fused and not is_quantized(transformer), dtype, compiled))

    def open(self, edit: Conditioning, timesteps: Tensor, place: Place) -> CachedEdit:
        """An edit whose steps are at `timesteps` (R,), counted to 1000 as schedulers do."""
        model = self.copy
        cos, sin = model.pos_embed(torch.cat([edit.text.ids, edit.noise.ids, edit.source.ids]))  # (N, E), angles twice
        rotations = torch.complex(cos[:, ::2].float(), sin[:, ::2].float())
        dtype = edit.noise.latents.dtype
        times = (timesteps.to(dtype) / 1000) * 1000  # rounded as in the plain pipeline
        guidance = [] if edit.guidance is None else [edit.guidance.to(dtype).expand(len(times)) * 1000]
        embeddings = model.time_text_embed(times, *guidance, edit.text.pooled.expand(len(times), -1))
        return CachedEdit(
            model,
            text=model.context_embedder(edit.text.embeds),
            source=model.x_embedder(edit.source.latents),
            rotations=torch.view_as_real(rotations).flatten(1) if model.compiled else rotations,
            embeddings=embeddings,
            plain_table=modulation_table(model, embeddings[:, None]) if place == "text_stream" else None,
        )


@dataclass(frozen=True)
class CachedEdit:
    """One edit on one transformer: all that its strengths share."""

    model: InferenceCopy
    text: Tensor  # (1, T, D)
    source: Tensor  # (1, S, D)
    rotations: Tensor  # (N, E / 2) complex; (N, E) where the blocks are compiled
    embeddings: Tensor  # (R, D): of time, guidance and pooled text
    plain_table: Tensor | None  # (R, M, 1, D), without offsets, where they come after the modulation layers

    def velocity_at(self, offsets: ModulationOffsets) -> Velocity:
        """The velocity with `offsets`, (B, D) each. Of the first step, its latents may have a batch of one."""
        modulation = self._modulation(offsets)

        def velocity(latents: Tensor, step: int) -> Tensor:
            return self.model.trunk(
                hidden_states=join_tokens(self.model.x_embedder(latents), self.source),
                encoder_hidden_states=self.text,
                pooled_projections=modulation(step),
                timestep=self.embeddings[step, 0],  # nobody reads it: `embeddings` has the time
                txt_ids=self.rotations[:0],
                img_ids=self.rotations,
                joint_attention_kwargs={"num_target": latents.shape[1]},
                return_dict=False,
            )[0]

        return velocity

    def _modulation(self, offsets: ModulationOffsets) -> Callable[[int], Tensor]:
        """Of a step, (M, B, D)."""
        scale, shift = (part.to(self.embeddings) for part in offsets)
        plain = self.plain_table
        if plain is None:
            return modulation_table(self.model, (1 + scale) * self.embeddings[:, None] + shift).__getitem__
        num_double = len(self.model.trunk.transformer_blocks)

        def with_offsets(step: int) -> Tensor:
            table = plain[step].repeat(1, len(scale), 1)
            text = table[: num_double * 12].unflatten(0, (-1, 2, 6))[:, 1]  # (double blocks, 6, B, D)
            text[:, SHIFT_MLP] += shift
            text[:, SCALE_MLP] += scale
            return table

        return with_offsets


def modulation_table(model: InferenceCopy, embeddings: Tensor) -> Tensor:
    """The answers of all modulation layers, (R, M, B, D). embeddings: (R, B, D)."""
    hidden = silu(embeddings)
    rows = [layer(hidden).unflatten(-1, (-1, hidden.shape[-1])).transpose(1, 2) for layer in model.modulation]
    return torch.cat(rows, dim=1)
