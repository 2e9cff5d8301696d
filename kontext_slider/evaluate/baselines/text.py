"""Sliders in the embeddings of the text.

Legend: T text tokens, W text width, P pooled width; embeddings (1, T, W), pooled (1, P).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kontext_slider.base import TextEncoding
from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.method import ByVelocity, LatentsAt, VelocityAt
from kontext_slider.instructions import FILLER, NO_EDIT
from kontext_slider.metrics.distances import Distance, rms

NUM_PROBES = 9  # pictures of the search for a range


@dataclass(frozen=True, kw_only=True)
class PadTokens(ByVelocity):
    """Pad-token interpolation, SliderEdit's first experiment (arXiv 2511.09715, section 3): the instruction's tokens
    y <- (1 - b) y + b y_pad, here before the first block. The scale is 1 - b; 1 is the base model's edit.

    pooled: the pooled text goes to that of the empty instruction in the same way.
    pads: so do the pads behind the instruction, which the encoder has let see it."""

    start: float = 0.27
    pooled: bool = True
    pads: bool = False

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        empty = edit.encode_text("")
        num_tokens = None if self.pads else len(text_pieces(edit, edit.instruction))

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            embeds = edit.text.embeds.clone()
            embeds[:, :num_tokens] = torch.lerp(empty.embeds[:, -1:], embeds[:, :num_tokens], scale)
            pooled = torch.lerp(empty.pooled, edit.text.pooled, scale) if self.pooled else edit.text.pooled
            return edit.velocity(z, sigma, replace(edit.text, embeds=embeds, pooled=pooled))

        return velocity


@dataclass(frozen=True, kw_only=True)
class EmbeddingSteering(ByVelocity):
    """Text-embedding steering (arXiv 2603.17998): y <- y + (scale - 1) d on the tokens that carry the concept, d the
    difference of the means of contrastive prompts over such tokens; 1 is the base model's edit.

    The authors let a language model write a hundred pairs and choose the tokens. Here the pair is the instruction and
    no edit, and the tokens are those of words that are no filler.

    pooled: the pooled text is steered in the same way.
    elastic: scales are spaced by equal distances of the pictures ("elastic range search"), from the weakest that is
        nearer to the unsteered edit than `limit` times the source's distance to it.
    """

    pooled: bool = True
    elastic: bool = True
    limit: float = 1.0
    distance: Distance = rms

    def velocity_at(self, edit: BaseEdit) -> VelocityAt:
        chosen, direction = steering(edit)

        def velocity(scale: float, z: Tensor, sigma: float) -> Tensor:
            embeds = edit.text.embeds.clone()
            embeds[:, chosen] += (scale - 1) * direction.embeds
            pooled = edit.text.pooled + (scale - 1) * direction.pooled if self.pooled else edit.text.pooled
            return edit.velocity(z, sigma, replace(edit.text, embeds=embeds, pooled=pooled))

        return velocity

    def latents_at(self, edit: BaseEdit) -> LatentsAt:
        latents_at = super().latents_at(edit)
        if not self.elastic:
            return latents_at
        scales = np.linspace(self.start, self.end, NUM_PROBES)
        pictures = [edit.picture(latents_at(scale)) for scale in scales]
        shares, found = elastic_range(self.distance([edit.picture(edit.source.latents), *pictures]), scales, self.limit)
        return lambda scale: latents_at(float(np.interp((scale - self.start) / (self.end - self.start), shares, found)))


def steering(edit: BaseEdit) -> tuple[list[int], TextEncoding]:
    """Positions of an instruction's concept tokens, and the direction from no edit to it: `embeds` (1, 1, W), `pooled`
    (1, P)."""
    chosen, none = concept_tokens(text_pieces(edit, edit.instruction)), edit.encode_text(NO_EDIT)
    positive = edit.text.embeds[:, chosen].mean(dim=1, keepdim=True)
    negative = none.embeds[:, concept_tokens(text_pieces(edit, NO_EDIT))].mean(dim=1, keepdim=True)
    return chosen, replace(none, embeds=positive - negative, pooled=edit.text.pooled - none.pooled)


def text_pieces(edit: BaseEdit, text: str) -> list[str]:
    return edit.base.text_pieces(text, edit.pipe.defaults.max_sequence_length)


def concept_tokens(pieces: Sequence[str]) -> list[int]:
    """Positions of the pieces of words that are no filler; all but the last, the end mark, where there are none."""
    words: list[list[int]] = []
    for position, piece in enumerate(pieces[:-1]):
        if piece.startswith("▁") or not words:
            words.append([])
        words[-1].append(position)
    spelled = ["".join(pieces[p] for p in word).lower().strip("▁" + string.punctuation) for word in words]
    chosen = [p for word, text in zip(words, spelled, strict=True) if text and text not in FILLER for p in word]
    return chosen or list(range(max(1, len(pieces) - 1)))


def elastic_range(matrix: np.ndarray, scales: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The scales in range, and the share of the range that each has gone, by the distances of neighbours.

    Args:
        matrix: distances of the source and the pictures at `scales`, (1 + n, 1 + n); the last is the unsteered edit.
        limit: times the source's distance to the edit, within which pictures must be.

    Returns (shares from 0 to 1, scales)."""
    to_edit = matrix[1:, -1]
    too_far = np.flatnonzero(to_edit > limit * matrix[0, -1])
    first = min(too_far[-1] + 1 if len(too_far) else 0, len(scales) - 2)
    gaps = np.diagonal(matrix[1:, 1:], offset=1)[first:]
    shares = np.concatenate([[0], np.cumsum(gaps)]) / max(gaps.sum(), 1e-12)
    return shares, scales[first:]
