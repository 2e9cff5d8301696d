"""Baselines inside the attention."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines.attention import attention_as, group_relative, reweighted

NUM_TEXT, NUM_TARGET = 3, 4


@pytest.fixture
def tokens():
    """Queries, keys and values of 3 text, 4 target and 4 source tokens, 2 heads of 5."""
    return torch.randn(3, 1, 2, 11, 5, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("before_softmax", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_attention_of_target_to_text_is_scaled_and_no_other(tokens, scale, before_softmax):
    """Attention to the source, or of the source's tokens, scaled as well would be another method."""
    query, key, value = tokens
    weights = (query @ key.transpose(-1, -2) / 5**0.5).softmax(-1)
    weights[:, :, 3:7, :3] *= scale
    if before_softmax:
        weights /= weights.sum(-1, keepdim=True)
    answer = reweighted(query, key, value, NUM_TEXT, NUM_TARGET, scale, before_softmax)
    assert torch.allclose(answer, weights @ value, atol=1e-5)


def test_grag_scales_the_differences_to_the_mean(tokens):
    """k' = lambda mean + delta (k - mean): with lambda kept, the mean of the keys stays."""
    keys = tokens[1]
    guided = group_relative(keys, 1.0, 1.7)
    assert torch.allclose(guided.mean(2), keys.mean(2), atol=1e-6) and torch.allclose(guided.var(2), 2.89 * keys.var(2))
    assert torch.allclose(group_relative(keys, 1.0, 1.0), keys, atol=1e-6)
    assert torch.allclose(group_relative(keys, 0.8, 0.8), 0.8 * keys, atol=1e-6)


def test_the_attention_is_torchs_own_again_behind_the_block(tokens):
    """A change that stays would reach every method measured afterwards."""
    with pytest.raises(RuntimeError), attention_as(lambda query, key, value: value):
        assert scaled_dot_product_attention(*tokens) is tokens[2]
        raise RuntimeError("stopped")
    assert scaled_dot_product_attention(*tokens) is not tokens[2]


def test_another_attention_is_told():
    """With another backend in diffusers nothing would be changed, and all frames would be the full edit."""
    with pytest.raises(InvalidInput, match="set_attention_backend"), attention_as(lambda query, key, value: value):
        torch.zeros(1).exp()
