"""What the base model is asked besides the edit."""

import pytest
import torch
from torch import nn

from kontext_slider.train.flow import flow_loss
from kontext_slider.train.pocket.guides import guided
from kontext_slider.world.things import KINDS
from tests.tiny import loud, tiny_transformer


def batch(num_pairs: int = 2, channels: int = 4) -> dict:
    """Random latents of 4 x 4 tokens and a text, as `flow_loss` wants them."""
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
    """A tap left in place would give the saved weights names that no library knows."""
    before, names = list(transformer.modules()), list(transformer.state_dict())
    with pytest.raises(RuntimeError), guided(transformer):
        assert list(transformer.state_dict()) != names
        raise RuntimeError
    assert list(transformer.modules()) == before and list(transformer.state_dict()) == names


def test_the_guides_change_nothing_that_the_transformer_answers(transformer):
    """They only read."""
    plain = flow_loss(transformer, **sized(batch, transformer))
    with guided(transformer):
        assert torch.equal(plain, flow_loss(transformer, **sized(batch, transformer)))


def test_the_guides_teach_blocks_before_them_by_the_source_alone(transformer):
    """A reader that looks at target tokens would read the answer off the noisy target."""
    inputs = sized(batch, transformer)
    shows = torch.randint(0, 1 << len(KINDS), (2, 16), dtype=torch.uint8)
    with guided(transformer) as guides:
        seen = {}
        for number, tap in enumerate(guides._taps):
            tap.register_forward_hook(lambda module, args, output, number=number: keep(seen, number, output[1]))
        flow_loss(transformer, **inputs)
        guides(shows, torch.rand(2, 16) < 0.5, torch.ones(2, 16)).backward()
    for image in seen.values():
        targets, sources = image.grad.chunk(2, dim=1)
        assert not targets.any() or image is seen[0]  # what the second reader asks flows back through attention
        assert sources.any()
    assert not seen[1].grad[:, :16].any()
    assert transformer.transformer_blocks[0].attn.to_q.weight.grad.any()


def test_the_guides_learn_what_they_are_asked(transformer):
    """Bits taken for another kind, or a loss that ignores its weights, would not fall to nothing here."""
    inputs, shows = sized(batch, transformer), torch.zeros(2, 16, dtype=torch.uint8)
    shows[0, :4], shows[1, 7] = 1 << 3, (1 << 6) | 1
    changed, weights = shows != 0, torch.ones(2, 16)
    with guided(transformer) as guides:
        optimizer = torch.optim.Adam([*guides.parameters(), *transformer.parameters()], 1e-2)
        for _ in range(80):
            flow_loss(transformer, **inputs)
            loss = guides(shows, changed, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        flow_loss(transformer, **inputs)
        assert guides(shows, changed, weights) < 0.05 * (len(KINDS) + 1) * 0.69
        assert guides(shows, ~changed, weights) > 1
        assert guides(shows, changed, torch.zeros(2, 16)) == 0


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
