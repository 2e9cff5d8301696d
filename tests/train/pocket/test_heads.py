"""Auxiliary heads: what they learn, and that they leave the transformer as it was."""

import pytest
import torch
from torch import nn

from kontext_slider.train.flow import flow_error, weighted_square
from kontext_slider.train.pocket.heads import heads_on
from kontext_slider.world.things import KINDS
from tests.tiny import loud, tiny_transformer


def flow_loss(transformer: nn.Module, **inputs) -> torch.Tensor:
    """A scalar."""
    return weighted_square(flow_error(transformer, **inputs))


def batch(num_pairs: int = 2, channels: int = 4) -> dict:
    """Random latents of 4 x 4 tokens and a text, as `flow_error` takes them."""
    torch.manual_seed(0)
    latents = torch.randn(3, num_pairs, channels, 8, 8)
    return {
        "source": latents[0],
        "target": latents[1],
        "noise": latents[2],
        "text": torch.randn(num_pairs, 5, 32),
        "pooled": torch.randn(num_pairs, 32),
        "sigmas": torch.full((num_pairs,), 0.9),
    }


@pytest.fixture
def transformer() -> nn.Module:
    torch.manual_seed(0)
    return loud(tiny_transformer(guidance_embeds=False))


def test_the_transformer_is_itself_again_afterwards(transformer):
    """A recorder left in place would give the saved weights names that no library knows."""
    before, names = list(transformer.modules()), list(transformer.state_dict())
    with pytest.raises(RuntimeError), heads_on(transformer):
        assert list(transformer.state_dict()) != names
        raise RuntimeError
    assert list(transformer.modules()) == before and list(transformer.state_dict()) == names


def test_the_heads_change_no_velocity(transformer):
    """They only read."""
    plain = flow_loss(transformer, **sized(batch, transformer))
    with heads_on(transformer):
        assert torch.equal(plain, flow_loss(transformer, **sized(batch, transformer)))


def test_the_heads_teach_blocks_before_them_by_the_source_alone(transformer):
    """A head that looks at target tokens would read the answer off the noisy target."""
    inputs = sized(batch, transformer)
    shows = torch.randint(0, 1 << len(KINDS), (2, 16), dtype=torch.uint8)
    with heads_on(transformer) as heads:
        seen = {}
        for number, recorder in enumerate(heads.recorders):
            recorder.register_forward_hook(lambda module, args, output, number=number: keep(seen, number, output[1]))
        flow_loss(transformer, **inputs)
        heads(shows, torch.rand(2, 16) < 0.5, torch.ones(2, 16)).backward()
    for image in seen.values():
        targets, sources = image.grad.chunk(2, dim=1)
        assert not targets.any() or image is seen[0]  # the second head's gradient flows back through attention
        assert sources.any()
    assert not seen[1].grad[:, :16].any()
    assert transformer.transformer_blocks[0].attn.to_q.weight.grad.any()


def test_the_heads_learn_their_labels(transformer):
    """Bits taken for another kind, or a loss that ignores its weights, would not fall to nothing here."""
    inputs, shows = sized(batch, transformer), torch.zeros(2, 16, dtype=torch.uint8)
    shows[0, :4], shows[1, 7] = 1 << 3, (1 << 6) | 1
    changed, weights = shows != 0, torch.ones(2, 16)
    with heads_on(transformer) as heads:
        optimizer = torch.optim.Adam([*heads.parameters(), *transformer.parameters()], 1e-2)
        for _ in range(80):
            flow_loss(transformer, **inputs)
            loss = heads(shows, changed, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        flow_loss(transformer, **inputs)
        assert heads(shows, changed, weights) < 0.05 * (len(KINDS) + 1) * 0.69
        assert heads(shows, ~changed, weights) > 1
        assert heads(shows, changed, torch.zeros(2, 16)) == 0


def keep(seen: dict, number: int, image: torch.Tensor) -> None:
    image.retain_grad()
    seen[number] = image


def sized(make, transformer) -> dict:
    inputs = make(channels=transformer.config.in_channels // 4)
    inputs["text"] = torch.randn(
        2, 5, transformer.config.joint_attention_dim, generator=torch.Generator().manual_seed(1)
    )
    inputs["pooled"] = torch.randn(
        2, transformer.config.pooled_projection_dim, generator=torch.Generator().manual_seed(2)
    )
    return inputs
