"""The paper's Fig. 14: the text's modulation times a number."""

import pytest
import torch

from kontext_slider.evaluate.baselines.modulation import MLP, text_modulation_scaled
from tests.tiny import INNER_DIM, tiny_transformer


@pytest.mark.parametrize("parts", [MLP, tuple(range(6))])
def test_only_the_text_modulation_is_scaled_and_only_inside_the_block(parts):
    """The image stream's, or a gate's, scaled as well would be another experiment; one that stays ruins the rest."""
    transformer, x, embedding = tiny_transformer(), torch.randn(1, 3, INNER_DIM), torch.randn(1, INNER_DIM)
    block = transformer.transformer_blocks[0]
    for norm in (block.norm1, block.norm1_context):
        norm.linear.bias.data.normal_()
    plain, image = block.norm1_context(x, emb=embedding), block.norm1(x, emb=embedding)
    with pytest.raises(RuntimeError), text_modulation_scaled(transformer, 0.5, parts):
        scaled = block.norm1_context(x, emb=embedding)
        assert all(map(torch.equal, block.norm1(x, emb=embedding), image))
        raise RuntimeError("stopped")
    factors = [0.5 if part in parts else 1.0 for part in (2, 3, 4, 5)]  # of what the norm answers besides x
    assert all(torch.allclose(a, f * b) for a, f, b in zip(scaled[1:], factors, plain[1:], strict=True))
    assert torch.equal(scaled[0], plain[0]) == (parts == MLP)
    assert all(map(torch.equal, block.norm1_context(x, emb=embedding), plain))
