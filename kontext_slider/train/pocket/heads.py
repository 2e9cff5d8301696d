"""Auxiliary heads of the base model's training: two linear layers on its source tokens.

One learns which kinds of objects a token shows, after the last double block; the other whether this instruction changes
the token, after half of the single blocks. The flow loss alone teaches both, but only through the colours of the right
answer, and a model this small needs thousands of steps for it. The heads are thrown away: the transformer is saved.

Legend: B pairs, L tokens of one picture, W width of the stream, T text tokens, M number of KINDS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kontext_slider.world.things import KINDS


class _Recorder(nn.Module):
    """In the place of a block: the block, and its last answer for the image."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.image = torch.empty(0)  # (B, 2 L, W)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        text, self.image = self.block(*args, **kwargs)
        return text, self.image

    def source_tokens(self) -> Tensor:
        """(B, L, W); target tokens come first."""
        return self.image.chunk(2, dim=1)[1]


class AuxiliaryHeads(nn.Module):
    """The two heads and the recorded blocks that they read from."""

    def __init__(self, width: int, kinds: _Recorder, changes: _Recorder) -> None:
        super().__init__()
        self.kinds = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(KINDS)))
        self.changes = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self.recorders = (kinds, changes)  # a tuple: the blocks are the transformer's parameters, not the heads'

    def forward(self, shows: Tensor, changed: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy of both heads on the batch that the transformer has just seen, a scalar.

        Args:
            shows: (B, L) uint8, bit k for KINDS[k].
            changed: (B, L) bool.
            weights: of the tokens, (B, L).
        """
        bits = 2 ** torch.arange(len(KINDS), device=shows.device)
        wanted = ((shows[..., None].long() & bits) != 0).float()  # (B, L, M)
        kinds, changes = (recorder.source_tokens() for recorder in self.recorders)
        errors = binary_cross_entropy_with_logits(self.kinds(kinds).float(), wanted, reduction="none").sum(-1)
        errors = errors + binary_cross_entropy_with_logits(
            self.changes(changes).squeeze(-1).float(), changed.float(), reduction="none"
        )
        return (errors * weights).mean()


@contextmanager
def heads_on(transformer: nn.Module) -> Iterator[AuxiliaryHeads]:
    """Fresh heads on a transformer inside the block; its own blocks in their places again afterwards."""
    double, single = transformer.transformer_blocks, transformer.single_transformer_blocks
    places = ((double, len(double) - 1), (single, (len(single) - 1) // 2))
    recorders = [_Recorder(blocks[number]) for blocks, number in places]
    try:
        for (blocks, number), recorder in zip(places, recorders, strict=True):
            blocks[number] = recorder
        yield AuxiliaryHeads(transformer.inner_dim, *recorders)
    finally:
        for (blocks, number), recorder in zip(places, recorders, strict=True):
            blocks[number] = recorder.block
