"""The closed-form codec: exact where it must be, smooth across patches, standard to save and load."""

import numpy as np
import pytest
import torch

from kontext_slider.codec import PatchCodec, lap, lapping_matrix
from kontext_slider.train.pocket.pairs import draw_source, to_tensor


def pictures(count: int, seed: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [to_tensor(draw_source(rng, 96, 64)[0]) for _ in range(count)]


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) / 2).square().mean()))


def test_all_coefficients_give_the_picture_back():
    """A lapping filter that is not orthogonal would lose detail that no number of channels brings back."""
    codec = PatchCodec(latent_channels=192).fit(pictures(12, 0))
    (picture,) = pictures(1, 1)
    assert decibels(codec.decode(codec.encode(picture).latent_dist.mode()).sample, picture) > 80


def test_fewer_coefficients_keep_what_matters():
    """A basis sorted the wrong way round keeps the noise and drops the picture."""
    few, many = (PatchCodec(latent_channels=k).fit(pictures(20, 0)) for k in (16, 48))
    test = torch.cat(pictures(6, 1))
    by_few, by_many = (decibels(c.decode(c.encode(test).latent_dist.mode()).sample, test) for c in (few, many))
    assert by_few < by_many and by_many > 34


def test_latents_have_unit_variance_and_an_eighth_of_the_side():
    """The noise of the flow has variance one; latents of another size would need other noise levels."""
    codec = PatchCodec().fit(pictures(30, 0))
    latents = codec.encode(torch.cat(pictures(30, 0))).latent_dist.mode()
    assert latents.shape == (30, 48, 8, 12)
    assert abs(float(latents.square().mean()) - 1) < 0.05


def test_lapping_is_orthogonal_and_spreads_an_error_over_the_border():
    """Without lapping, an error in one patch ends in a visible step at its border."""
    matrix = lapping_matrix()
    assert torch.allclose(matrix @ matrix.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    patch = torch.zeros(1, 3, 24, 24)
    patch[..., 8:16, 8:16] = 1
    spread = lap(patch, lapping_matrix().float().T)
    assert spread[0, 0, 12, 4:8].abs().max() > 0.05
    assert (spread[0, 0, 12, 15] - spread[0, 0, 12, 16]).abs() < 0.6


def test_odd_sides_are_refused_with_a_sentence():
    """A silent crop would move the frame against the source."""
    with pytest.raises(ValueError, match="multiples of 8"):
        PatchCodec().encode(torch.zeros(1, 3, 20, 24))


def test_half_precision_file_comes_back(tmp_path):
    """The shipped weights are half precision; a codec that needs more would lose decibels on disk."""
    codec = PatchCodec().fit(pictures(12, 0))
    (picture,) = pictures(1, 1)
    before = codec.decode(codec.encode(picture).latent_dist.mode()).sample
    codec.half().save_pretrained(tmp_path)
    again = PatchCodec.from_pretrained(tmp_path)
    after = again.decode(again.encode(picture).latent_dist.mode()).sample
    assert after.dtype == torch.float32 and decibels(before, after) > 45
