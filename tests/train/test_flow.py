"""The error of a velocity, whatever the noise hides."""

import pytest
import torch

from kontext_slider.base.flux1_kontext import Flux1Kontext
from kontext_slider.train.flow import (
    SliderBatch,
    corrected_error,
    flow_error,
    sample_sigmas,
    weighted_square,
)
from tests.tiny import POOLED_DIM, TEXT_DIM, loud, tiny_pipeline, tiny_transformer

pack = Flux1Kontext.pack


def leading_to(picture: torch.Tensor):
    """A transformer whose velocity leads from whatever is noisy to `picture` (B, C, h, w)."""
    transformer = tiny_pipeline(slider=False).transformer

    def forward(hidden_states, timestep, **_rest):
        noisy = hidden_states[:, : hidden_states.shape[1] // 2]
        velocity = (noisy - pack(picture)) / timestep[:, None, None]
        return (torch.cat([velocity, torch.full_like(velocity, torch.nan)], dim=1),)

    transformer.forward = forward
    return transformer


@pytest.mark.parametrize("weighting", ["none", "sigma_squared"])
def test_the_velocity_leads_to_the_target(weighting):
    """Trained to undo the noise only, or an error that grows with the noise level."""
    source, target, noise = torch.randn(3, 2, 8, 4, 6)
    inputs = torch.randn(2, 3, 5), torch.randn(2, 4), torch.tensor([0.3, 1.0]), noise, weighting
    right = flow_error(leading_to(target), source, target, *inputs)
    torch.testing.assert_close(right, torch.zeros_like(right), atol=1e-5, rtol=0)
    off = flow_error(leading_to(target + 1), source, target, *inputs)
    sigmas = torch.tensor([0.3, 1.0])[:, None, None] if weighting == "none" else 1
    torch.testing.assert_close(off * sigmas, -torch.ones_like(off), atol=1e-5, rtol=0)


def random_batch(batch: int = 2) -> SliderBatch:
    torch.manual_seed(4)
    source, target, noise = torch.randn(3, batch, 4, 8, 8)
    text, pooled = torch.randn(batch, 5, TEXT_DIM), torch.randn(batch, POOLED_DIM)
    strengths, sigmas = torch.tensor([0.3, 0.8]), torch.tensor([0.2, 0.9])
    return SliderBatch(source, target, strengths, text, pooled, sigmas, noise, torch.ones(batch))


@torch.no_grad()
def test_a_step_away_from_the_picture_counts_for_less_near_it():
    """Weighted by sigma squared, a velocity's error counts as the error of the picture that it points to."""
    torch.manual_seed(0)
    transformer, batch = loud(tiny_transformer(guidance_embeds=False)), random_batch()
    args = (batch.source, batch.target, batch.text, batch.pooled, batch.sigmas, batch.noise)
    plain, weighted = (flow_error(transformer, *args, weighting) for weighting in ("none", "sigma_squared"))
    torch.testing.assert_close(weighted, plain * batch.sigmas[:, None, None])


def test_weights_of_tokens_and_channels():
    """A token's error counts as often as its weight says, and a channel's in all four places of a token."""
    error = torch.randn(2, 16, 16)
    half = torch.ones(2, 16)
    half[:, 8:] = 0
    parts = [weighted_square(error, weights=weights) for weights in (half, 1 - half)]
    torch.testing.assert_close(sum(parts), weighted_square(error))
    of_channels = weighted_square(error, channels=torch.tensor([3.0, 0, 0, 0]))
    torch.testing.assert_close(of_channels, 3 * error[..., :4].square().sum() / error.numel())


def test_noise_levels_reach_one_and_favour_it():
    """Sampling starts at pure noise: levels that stop short of it leave the first step untrained."""
    sigmas = sample_sigmas("near_one", 4000, torch.Generator().manual_seed(0))
    assert sigmas.min() > 0 and sigmas.max() <= 1
    assert (sigmas > 0.9).float().mean() > 0.25


@pytest.mark.parametrize(("strength", "cost"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 1.0)])
def test_an_error_that_the_untouched_frame_has_too_is_corrected(strength, cost):
    """Trained on what is not shown: 1 - s of what the frame at 0 misses is added, which is nothing from 1 on."""
    error = torch.ones(1, 4, 64)  # off by 1 everywhere, at both strengths
    torch.testing.assert_close(corrected_error(error, error, torch.tensor([strength])), cost * error)


def test_untouched_rows_stand_behind_their_own():
    """The untouched frames of other rows, at other noise, or with the edit as their target."""
    batch = random_batch()
    both = batch.with_untouched()
    assert both.strengths.tolist() == [*batch.strengths.tolist(), 0, 0]
    for name, tensor in both.tensors().items():
        first, second = tensor.chunk(2)
        assert torch.equal(first, batch.tensors()[name])
        assert torch.equal(second, first) or name in ("target", "strengths")
    assert torch.equal(both.target[2:], batch.source)
