"""The projector: released layout, encodings, strengths."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from kontext_slider import StrengthProjector
from kontext_slider.errors import InvalidInput
from tests.tiny import INNER_DIM, POOLED_DIM, tiny_projector


def test_default_sizes_have_the_released_layout():
    """A renamed or reshaped parameter would make the released file unloadable."""
    with torch.device("meta"):
        projector = StrengthProjector()
    shapes = {name: tuple(tensor.shape) for name, tensor in projector.state_dict().items()}
    assert shapes == {
        "pe_extender.weight": (768, 2),
        "pe_extender.bias": (768,),
        "projector.0.weight": (6144, 1536),
        "projector.0.bias": (6144,),
        "projector.2.weight": (6144, 6144),
        "projector.2.bias": (6144,),
        "projector.4.weight": (6144, 6144),
        "projector.4.bias": (6144,),
        "projector.6.weight": (6144, 6144),
        "projector.6.bias": (6144,),
    }


def test_forward_is_the_mlp_of_the_facts_scale_first():
    """Swapped halves, a ReLU after the last layer or pooled text in front would still run."""
    projector, pooled = tiny_projector(), torch.randn(3, POOLED_DIM)
    strength = torch.tensor([0.0, 0.3, 1.0])
    w = projector.state_dict()
    encoded = torch.stack([(math.pi * strength).sin(), (math.pi * strength).cos()], dim=1)
    x = torch.cat([F.linear(encoded, w["pe_extender.weight"], w["pe_extender.bias"]), pooled], dim=1)
    for layer in (0, 2, 4):
        x = F.linear(x, w[f"projector.{layer}.weight"], w[f"projector.{layer}.bias"]).relu()
    x = F.linear(x, w["projector.6.weight"], w["projector.6.bias"])
    offsets = projector(strength, pooled)
    torch.testing.assert_close(offsets.scale, x[:, :INNER_DIM])
    torch.testing.assert_close(offsets.shift, x[:, INNER_DIM:])


def test_one_pooled_text_serves_all_strengths():
    """A sweep has one instruction; its batch of one must not have to be repeated by hand."""
    projector, pooled = tiny_projector(), torch.randn(1, POOLED_DIM)
    strengths = torch.tensor([0.1, 0.9])
    torch.testing.assert_close(projector(strengths, pooled), projector(strengths, pooled.repeat(2, 1)))


def test_half_precision_keeps_neighbouring_strengths_apart():
    """Multiplying by pi in bfloat16 makes 0.500 and 0.501 the same strength."""
    projector = tiny_projector().to(torch.bfloat16)
    strengths = torch.tensor([0.500, 0.501])
    encoded = projector.encode_strength(strengths)
    assert encoded.dtype == torch.float32
    assert not torch.equal(encoded[0].bfloat16(), encoded[1].bfloat16())
    assert projector(strengths, torch.zeros(1, POOLED_DIM)).scale.dtype == torch.bfloat16


def test_sinusoidal_encoding_of_the_paper():
    """The paper's 128 values; a wrong axis would mix the frames of a batch."""
    projector = tiny_projector(strength_encoding="sinusoidal", strength_dim=128)
    encoded = projector.encode_strength(torch.tensor([0.0, 0.5]))
    assert encoded.shape == (2, 128)
    torch.testing.assert_close(encoded[0], torch.cat([torch.zeros(64), torch.ones(64)]))
    torch.testing.assert_close(encoded[1, 0], torch.tensor(500.0).sin())
    assert projector.pe_extender.weight.shape == (POOLED_DIM, 128)


def test_zero_last_layer_changes_nothing():
    """Training starts at the plain model; a forgotten bias would not."""
    offsets = tiny_projector().zero_last_layer()(torch.tensor([0.7]), torch.randn(1, POOLED_DIM))
    assert not offsets.scale.any() and not offsets.shift.any()


def test_config_survives_saving(tmp_path):
    """Sizes live in config.json: without them the weights do not load."""
    before = tiny_projector(num_layers=3, strength_encoding="sinusoidal", strength_dim=16)
    before.save_pretrained(tmp_path)
    after = StrengthProjector.from_pretrained(tmp_path)
    given = (torch.tensor([0.4]), torch.randn(1, POOLED_DIM))
    torch.testing.assert_close(before(*given), after(*given))


@pytest.mark.parametrize(
    "sizes",
    [
        {"strength_encoding": "fourier"},
        {"strength_dim": 128},
        {"strength_dim": 7, "strength_encoding": "sinusoidal"},
        {"num_layers": 1},
        {"degree": 0},
        {"degree": 2.0},
        {"degree": True},
    ],
)
def test_impossible_sizes_are_refused(sizes):
    """A wrong encoding width would otherwise fail in the first forward pass, or not at all."""
    with pytest.raises(InvalidInput):
        tiny_projector(**sizes)


def test_beyond_the_trained_strengths_offsets_go_on_straight():
    """The released encoding turns back at 1: 1.3 would look like 0.7."""
    projector, pooled = tiny_projector(), torch.randn(1, POOLED_DIM)
    at = [projector(torch.tensor([s]), pooled).shift for s in (0.9, 1.0, 1.2, 1.5)]
    torch.testing.assert_close(at[2], at[1] + 2 * (at[1] - at[0]))
    torch.testing.assert_close(at[3], at[1] + 5 * (at[1] - at[0]))
    mixed = projector(torch.tensor([0.4, 1.2]), pooled).shift
    torch.testing.assert_close(mixed, torch.cat([projector(torch.tensor([0.4]), pooled).shift, at[2]]))


def test_a_polynomial_goes_through_the_mlps_answers():
    """Offsets of degree 3 are a cubic of the strength: fourth differences vanish. Beyond 1 the MLP has its say."""
    plain, pooled = tiny_projector(highest_strength=1.5), torch.randn(1, POOLED_DIM, dtype=torch.float64)
    cubic = tiny_projector(highest_strength=1.5, degree=3)
    cubic.load_state_dict(plain.state_dict())
    plain, cubic = plain.double(), cubic.double()
    for strength in (0.0, 0.25, 0.75, 1.0, 1.2, 1.5):
        given = torch.tensor([strength], dtype=torch.float64), pooled
        torch.testing.assert_close(cubic(*given).scale, plain(*given).scale, atol=1e-6, rtol=1e-5)
    along = torch.linspace(0, 1, 9, dtype=torch.float64)
    curve, kinked = (torch.cat(projector(along, pooled), dim=1) for projector in (cubic, plain))
    assert curve.diff(n=4, dim=0).abs().max() < 1e-3 * kinked.diff(n=4, dim=0).abs().max()
    assert curve.diff(n=3, dim=0).abs().max() > 1e-2 * kinked.diff(n=3, dim=0).abs().max()


def test_a_polynomial_keeps_the_texts_of_a_batch_apart():
    """Every frame of a training batch has a strength and a text of its own; one text serves a whole sweep."""
    projector, pooled = tiny_projector(degree=3), torch.randn(3, POOLED_DIM)
    strengths = torch.tensor([0.1, 0.6, 0.9])
    together = projector(strengths, pooled).shift
    alone = [projector(strengths[k : k + 1], pooled[k : k + 1]).shift for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    sweep = projector(strengths, pooled[:1]).shift
    torch.testing.assert_close(sweep, projector(strengths, pooled[:1].repeat(3, 1)).shift)
    together.sum().backward()
    assert all(parameter.grad is not None for parameter in projector.parameters())


def test_a_projector_trained_further_is_asked_further():
    """What was trained up to 1.5 must not be extrapolated from 1."""
    projector, pooled = tiny_projector(highest_strength=1.5), torch.randn(1, POOLED_DIM)
    encoded = projector.pe_extender(projector.encode_strength(torch.tensor([1.3])))
    plain = projector.projector(torch.cat([encoded, pooled], dim=-1))
    torch.testing.assert_close(torch.cat(projector(torch.tensor([1.3]), pooled), dim=-1), plain)
