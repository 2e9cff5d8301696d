"""Morphs on the editing model itself: its flow, with conditions that go from the source's to the edit's.

A morph is a *field* (velocities at any strength) and a *sampler* (how it is followed so that strengths 0 and 1 end at
the two pictures). `flow-text` and `flow-velocity` are fields under `follow_straight`; `flow-inversion` follows the
blended velocities from inverted noise.

Legend: B rows of a batch, L target tokens, C channels of a packed token; latents z (B, L, C) float32; sigma in (0, 1];
s strengths (B, 1, 1); n strengths of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from PIL.Image import Image
from torch import Tensor

from kontext_slider.base import TextEncoding
from kontext_slider.base_edit import BaseEdit
from kontext_slider.instructions import NO_EDIT
from kontext_slider.metrics import to_image
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.morph.common import check_pair, slerp_whole

Field = Callable[["FlowModel", Tensor, float, Tensor], Tensor]  # (model, z, sigma, s) -> velocity, all (B, L, C)
Sampler = Callable[["FlowModel", Field, Tensor], Tensor]  # (model, field, s (n, 1, 1)) -> latents (n, L, C)

INVERSION_STEPS = 8  # at least; a model of few steps has too large ones to be walked backwards
INVERSION_DEPTH = 0.75  # the noise level at which the two inverted pictures are mixed
FIXED_POINT_ROUNDS = 2


class FlowModel(BaseEdit):
    """The editing model's flow between two pictures: both of them, both texts and the noise encoded.

    Args:
        pipe: its slider, if it has one, is off.
        source, edited: of one size, with sides that are multiples of the packing.
        instruction: what leads from one to the other.
        seed: of the noise.

    Raises InvalidInput for pictures of two sizes.
    """

    def __init__(self, pipe: KontextSliderPipeline, source: Image, edited: Image, instruction: str, seed: int):
        check_pair(source, edited)
        super().__init__(pipe, source, instruction, seed)
        self.no_edit = self.encode_text(NO_EDIT)
        self.ends = torch.cat([self.source.latents, self.encode_source(edited).latents]).float()  # (2, L, C)

    def strengths(self, values: Sequence[float]) -> Tensor:
        """(B, 1, 1), where the latents are."""
        return torch.tensor(values, dtype=torch.float32, device=self.ends.device)[:, None, None]

    def text_at(self, s: Tensor) -> TextEncoding:
        """From no edit to the instruction, by strength."""
        a, b, s = self.no_edit, self.text, s.to(self.dtype)
        return TextEncoding(torch.lerp(a.embeds, b.embeds, s), torch.lerp(a.pooled, b.pooled, s[:, 0]), a.ids)

    def pictures(self, latents: Tensor) -> list[Image]:
        """Decode (B, L, C), one row at a time."""
        return [to_image(self.picture(row[None])) for row in latents]


def text_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """One velocity, of a text between no edit and the instruction."""
    return model.velocity(z, sigma, model.text_at(s))


def velocity_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """Two velocities, of no edit and of the instruction, mixed."""
    return torch.lerp(model.velocity(z, sigma, model.no_edit), model.velocity(z, sigma, model.text), s)


def follow_straight(model: FlowModel, field: Field, s: Tensor) -> Tensor:
    """Euler steps from one noise to all strengths. At either end the field is corrected to the straight path to that
    picture, x_sigma = (1 - sigma) x + sigma noise; in between by the mixture of both corrections. So strengths 0 and 1
    end exactly at the two pictures, and a field that is linear in strength and z gives their cross-fade."""
    s = torch.cat([s.new_zeros(1, 1, 1), s, s.new_ones(1, 1, 1)])  # the ends go along, first and last
    noise = model.noise.latents.float()
    z = noise.expand(len(s), -1, -1)
    straight = noise - model.ends  # (2, L, C)
    for sigma, following in pairwise(model.sigmas()):
        velocity = field(model, z, sigma, s)
        correction = straight - velocity[[0, -1]]
        z = z + (following - sigma) * (velocity + torch.lerp(correction[:1], correction[1:], s))
    return z[1:-1]


def follow_inverted(model: FlowModel, field: Field, s: Tensor) -> Tensor:
    """Walk both pictures back up the field to INVERSION_DEPTH, mix what is there on the sphere, walk down again.

    A step up is the one that the same step down undoes, found by fixed-point rounds."""
    steps = max(model.pipe.defaults.steps, INVERSION_STEPS)
    sigmas = [sigma for sigma in model.sigmas(steps) if sigma <= INVERSION_DEPTH]
    ends, z = model.strengths([0.0, 1.0]), model.ends
    for sigma, following in pairwise(reversed(sigmas)):
        start = z
        for _ in range(FIXED_POINT_ROUNDS):
            z = start + (following - sigma) * field(model, z, following, ends)
    z = slerp_whole(z[:1], z[1:], s.flatten())
    for sigma, following in pairwise(sigmas):
        z = z + (following - sigma) * field(model, z, sigma, s)
    return z


@torch.no_grad()
def morph_by(
    sampler: Sampler, field: Field,
    pipe: KontextSliderPipeline, source: Image, edited: Image, instruction: str, strengths: Sequence[float], seed: int,
) -> list[Image]:  # fmt: skip
    """A morpher once sampler and field are given."""
    model = FlowModel(pipe, source, edited, instruction, seed)
    return model.pictures(sampler(model, field, model.strengths(strengths)))


flow_text = partial(morph_by, follow_straight, text_field)
flow_velocity = partial(morph_by, follow_straight, velocity_field)
flow_inversion = partial(morph_by, follow_inverted, velocity_field)
