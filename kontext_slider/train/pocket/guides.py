"""What the base model is asked besides the edit, while it trains: two linear readers of its source tokens.

Which kinds of objects does a token show, asked after the last double block; and does this instruction change it, asked
after half of the single blocks. The flow loss alone says so too, but only through the colours of the right answer, and
a model this small needs thousands of steps to hear it. The readers are thrown away: what is saved is the transformer.

Legend: B pairs, L tokens of one picture, W width of the stream, T text tokens, M number of KINDS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kontext_slider.world.things import KINDS


class _Tap(nn.Module):
    """In the place of a block: the block, and what it last answered for the image."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.image = torch.empty(0)  # (B, 2 L, W)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        text, self.image = self.block(*args, **kwargs)
        return text, self.image


class Guides(nn.Module):
    """The two readers and the taps that they read from."""

    def __init__(self, width: int, kinds: _Tap, changes: _Tap) -> None:
        super().__init__()
        self.kinds = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(KINDS)))
        self.changes = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1))
        self._taps = (kinds, changes)  # a tuple: the blocks are the transformer's parameters, not the readers'

    def forward(self, shows: Tensor, changed: Tensor, weights: Tensor) -> Tensor:
        """Cross-entropy of both answers on the batch that the transformer has just seen, a scalar.

        Args:
            shows: (B, L) uint8, bit k for KINDS[k].
            changed: (B, L) bool.
            weights: of the tokens, (B, L).
        """
        bits = 2 ** torch.arange(len(KINDS), device=shows.device)
        wanted = ((shows[..., None].long() & bits) != 0).float()  # (B, L, M)
        kinds, changes = (self._source_tokens(tap) for tap in self._taps)
        errors = binary_cross_entropy_with_logits(self.kinds(kinds).float(), wanted, reduction="none").sum(-1)
        errors = errors + binary_cross_entropy_with_logits(
            self.changes(changes).squeeze(-1).float(), changed.float(), reduction="none"
        )
        return (errors * weights).mean()

    @staticmethod
    def _source_tokens(tap: _Tap) -> Tensor:
        return tap.image.chunk(2, dim=1)[1]  # (B, L, W); target tokens come first


@contextmanager
def guided(transformer: FluxTransformer2DModel) -> Iterator[Guides]:
    """The readers on a transformer inside the block; its own blocks in their places again afterwards."""
    double, single = transformer.transformer_blocks, transformer.single_transformer_blocks
    places = ((double, len(double) - 1), (single, (len(single) - 1) // 2))
    taps = [_Tap(blocks[number]) for blocks, number in places]
    try:
        for (blocks, number), tap in zip(places, taps, strict=True):
            blocks[number] = tap
        yield Guides(transformer.inner_dim, *taps)
    finally:
        for (blocks, number), tap in zip(places, taps, strict=True):
            blocks[number] = tap.block
