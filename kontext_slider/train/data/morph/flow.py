"""Morphs on the editing model itself: its flow, with conditions that go from the source's to the edit's.

A morph is a *field* (velocities at any strength) and a *sampler* (how it is followed so that strengths 0 and 1 end at
the two pictures). `flow-text`, `flow-velocity`, `flow-context` and `flow-attention` are fields under `follow_straight`;
`flow-inversion` follows the blended velocities from inverted noise.

Legend: see `flow_model`; n strengths of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor

from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.data.morph.flow_model import FlowModel
from kontext_slider.train.data.morph.sphere import slerp_whole

Field = Callable[[FlowModel, Tensor, float, Tensor], Tensor]  # (model, z, sigma, s) -> velocity, all (B, L, C)
Sampler = Callable[[FlowModel, Field, Tensor], Tensor]  # (model, field, s (n, 1, 1)) -> latents (n, L, C)

INVERSION_STEPS = 8  # at least; a model of few steps has too large ones to be walked backwards
INVERSION_DEPTH = 0.75  # the noise level at which the two inverted pictures are mixed
FIXED_POINT_ROUNDS = 2
TINY = 1e-4


def text_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """One velocity, of a text between "keep it" and the instruction."""
    return model.velocity(z, sigma, model.keep.toward(model.change, s), model.source)


def velocity_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """Two velocities, of "keep it" and of the instruction, mixed."""
    keep = model.velocity(z, sigma, model.keep, model.source)
    return torch.lerp(keep, model.velocity(z, sigma, model.change, model.source), s)


def context_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """One velocity of "keep it", the picture to keep being the cross-fade of both."""
    return model.velocity(z, sigma, model.keep, torch.lerp(model.source, model.ends[1:], s))


def attention_field(model: FlowModel, z: Tensor, sigma: float, s: Tensor) -> Tensor:
    """One velocity of "keep it", with both pictures to look at: attention to them is weighted 1 - s and s."""
    both = model.ends.flatten(0, 1)[None]  # (1, 2 L, C)
    num_text, num_tokens = model.text_ids.shape[0], z.shape[1]
    weights = torch.cat([1 - s, s], dim=2).clamp_min(TINY).log()  # (B, 1, 2)
    to_contexts = weights.repeat_interleave(num_tokens, dim=2)  # (B, 1, 2 L)
    bias = torch.cat([to_contexts.new_zeros(len(z), 1, num_text + num_tokens), to_contexts], dim=2)
    bias = bias[:, None].expand(-1, 1, bias.shape[2], -1)  # (B, 1, tokens, tokens)
    return model.velocity(z, sigma, model.keep, both, num_contexts=2, bias=bias)


def follow_straight(model: FlowModel, field: Field, s: Tensor) -> Tensor:
    """Euler steps from one noise to all strengths. At either end the field is corrected to the straight path to that
    picture, x_sigma = (1 - sigma) x + sigma noise; in between by the mixture of both corrections. So strengths 0 and 1
    end exactly at the two pictures, and a field that is linear in strength and z gives their cross-fade."""
    s = torch.cat([s.new_zeros(1, 1, 1), s, s.new_ones(1, 1, 1)])  # the ends go along, first and last
    z = model.noise.expand(len(s), -1, -1)
    straight = model.noise - model.ends  # (2, L, C)
    for sigma, following in pairwise(model.sigmas(model.pipe.defaults.steps)):
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
    sampler: Sampler,
    field: Field,
    pipe: KontextSliderPipeline,
    source: Image.Image,
    edited: Image.Image,
    instruction: str,
    strengths: Sequence[float],
    seed: int,
) -> list[Image.Image]:
    """A `registry.Morpher` once sampler and field are given."""
    model = FlowModel(pipe, source, edited, instruction, seed)
    return model.pictures(sampler(model, field, model.strengths(strengths)))


flow_text = partial(morph_by, follow_straight, text_field)
flow_velocity = partial(morph_by, follow_straight, velocity_field)
flow_context = partial(morph_by, follow_straight, context_field)
flow_attention = partial(morph_by, follow_straight, attention_field)
flow_inversion = partial(morph_by, follow_inverted, velocity_field)
