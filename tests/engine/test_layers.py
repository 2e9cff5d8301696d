"""Linear layers with the slider's LoRA beside them, and in copies: joined, merged, in eight bits."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from kontext_slider.engine.layers import EIGHT_BITS, Dense, EightBits, as_they_are, copied, in_eight_bits
from kontext_slider.lora import ADAPTER, slider_lora
from tests.tiny import shake


@pytest.fixture
def layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(32, 48), nn.Linear(32, 16)


@pytest.fixture
def tokens():
    """(2, 5, 32), each token of its own size."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, 32, generator=generator) * 10 ** torch.linspace(-3, 3, 5)[:, None]


def test_a_row_keeps_three_bits_of_its_fraction_whatever_its_size(tokens):
    """One scale for all rows would round the small ones away."""
    rows, scale = in_eight_bits(tokens[0])
    assert rows.dtype is EIGHT_BITS and scale.shape == (5, 1)
    back = rows.float() * scale
    finest = scale * 2**-10  # half a step between the smallest numbers that eight bits have
    assert ((back - tokens[0]).abs() <= tokens[0].abs() * 2**-4 + finest).all()
    assert in_eight_bits(torch.zeros(1, 16))[0].float().eq(0).all()  # no division by nothing


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_in_eight_bits_answers_nearly_the_same_for_every_token(layers, tokens, dtype):
    """Scales of the wrong axis, a bias that is lost or scaled, an answer of another shape or dtype."""
    asked = copied(EIGHT_BITS)(*layers)
    assert isinstance(asked, EightBits) and asked.weight.dtype is EIGHT_BITS
    answer, whole = asked(tokens.to(dtype)), as_they_are(*layers)(tokens)
    assert answer.dtype is dtype and answer.shape == whole.shape == (2, 5, 64)
    errors = (answer.float() - whole).norm(dim=-1) / whole.norm(dim=-1)
    assert errors.max() < 0.06


@torch.no_grad()
def test_a_lone_layer_without_lora_is_not_copied(layers):
    """Gigabytes of a large model, for nothing."""
    alone, two = copied(torch.float32)(layers[0]), copied(torch.float32)(*layers)
    assert isinstance(alone, Dense) and alone.weight.data_ptr() == layers[0].weight.data_ptr()
    assert torch.equal(two.weight, torch.cat([layer.weight for layer in layers]))


@torch.no_grad()
@pytest.mark.parametrize("dtype, rounding", [(torch.float32, 1e-5), (torch.bfloat16, 2**-6)])
def test_the_lora_is_beside_a_layer_that_is_not_copied(layers, tokens, dtype, rounding):
    """The slider's is switched off between calls, its scale is not always 1, and no answer may change the layer."""
    model = nn.ModuleDict({"a": layers[0], "b": layers[1]}).to(dtype)
    inject_adapter_in_model(
        LoraConfig(r=4, lora_alpha=6, target_modules=["a"], init_lora_weights="gaussian"), model, ADAPTER
    )
    shake([p for name, p in model.named_parameters() if "lora_" in name], 0.3)
    model.eval()
    x = tokens[:, 2:3].to(dtype)
    with slider_lora(model, on=True):
        wanted = torch.cat([model["a"](x), model["b"](x)], dim=-1)
    with slider_lora(model, on=False):
        asked = as_they_are(model["a"], model["b"])
        without, answer, again = model["a"](x), asked(x), asked(x)
    assert answer.dtype is dtype and torch.equal(answer, again)
    torch.testing.assert_close(answer, wanted, rtol=rounding, atol=rounding)
    assert not torch.allclose(answer[..., :48], without, atol=1e-2)
