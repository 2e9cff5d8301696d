"""The error of a velocity, whatever the noise hides."""

import pytest
import torch

from kontext_slider.train.flow import first_guess, flow_error, pack
from tests.tiny import tiny_pipeline


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
def test_from_a_wrong_guess_the_way_leads_to_the_target(weighting):
    """Trained to finish its own mistake, or to undo the noise only."""
    source, target, guess, noise = torch.randn(4, 2, 8, 4, 6)
    inputs = torch.randn(2, 3, 5), torch.randn(2, 4), torch.tensor([0.3, 1.0]), noise, weighting
    right = flow_error(leading_to(target), source, target, *inputs, hidden=pack(guess))
    torch.testing.assert_close(right, torch.zeros_like(right), atol=1e-5, rtol=0)
    off = flow_error(leading_to(target + 1), source, target, *inputs, hidden=pack(guess))
    sigmas = torch.tensor([0.3, 1.0])[:, None, None] if weighting == "none" else 1
    torch.testing.assert_close(off * sigmas, -torch.ones_like(off), atol=1e-5, rtol=0)
    plain = flow_error(leading_to(guess), source, target, *inputs)
    torch.testing.assert_close(plain, flow_error(leading_to(guess), source, target, *inputs, hidden=pack(target)))


def test_a_first_guess_is_where_one_step_from_noise_ends():
    """A guess at another level of noise, or of the source's tokens."""
    source, picture, noise = torch.randn(3, 2, 8, 4, 6)
    guess = first_guess(leading_to(picture), source, torch.randn(2, 3, 5), torch.randn(2, 4), noise)
    torch.testing.assert_close(guess, pack(picture))
