"""DDIM in both directions on a tiny Stable Diffusion of real classes."""

import copy

import pytest
import torch

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.morph.stable_diffusion import StableDiffusion, slerp
from tests.tiny import tiny_image


def test_five_rounds_of_inversion_come_back_and_one_does_not(diffusion):
    """Wrong timesteps, or rounds that do not start from the step before, lose the ends of every morph."""
    sd = StableDiffusion(diffusion, steps=10)
    z, text = sd.encode([tiny_image(32, 32, 1)]), sd.encode_text("snow")

    def predict(z, timestep, step):
        return sd.model.unet(z, timestep, text).sample

    def error(rounds):
        return float((sd.denoise(sd.invert(z, predict, rounds, 8), predict, 8) - z).abs().max())

    assert error(5) < 0.05 * error(1)


def test_a_walk_of_some_steps_stops_on_the_way_to_noise(diffusion):
    """FreeMorph walks the first 40 of 50 steps: walking 40 that span everything would lose the picture."""
    sd, seen, numbers = StableDiffusion(diffusion, steps=10), [], []
    z = torch.ones(1, 4, 8, 8)

    def predict(z, timestep, step):
        seen.append(int(timestep))
        numbers.append(step)
        return torch.zeros_like(z)

    sd.denoise(sd.invert(z, predict, 1, 8), predict, 8)
    assert seen == [0, 100, 200, 300, 400, 500, 600, 700, 700, 600, 500, 400, 300, 200, 100, 0]
    assert numbers == [*range(8), *range(8)]


def test_pictures_come_back_at_their_own_size_through_the_native_one(diffusion):
    """A wide picture must not come back square, nor one at the model's size."""
    sd = StableDiffusion(diffusion, steps=2)
    z = sd.encode([tiny_image(96, 64, 1)])
    assert z.shape[2] < z.shape[3] and z.shape[2] * z.shape[3] == pytest.approx(16 * 16, rel=0.2)
    assert sd.decode(z, (96, 64)).size == (96, 64)


def test_another_precision_is_refused(diffusion):
    """Nobody sees in the code that bfloat16 costs the ends 8 dB; the loader must not take a caller's dtype, either."""
    half = copy.copy(diffusion)
    half.register_modules(unet=copy.deepcopy(diffusion.unet).to(torch.bfloat16))
    with pytest.raises(InvalidInput, match="float32"):
        StableDiffusion(half, steps=2)


def test_a_saved_model_is_found_by_name_and_a_missing_one_is_a_sentence(diffusion, tmp_path):
    """The command line names a folder or a hub id."""
    diffusion.save_pretrained(tmp_path / "sd")
    found = StableDiffusion.from_pretrained(str(tmp_path / "sd"), torch.device("cpu"), 2)
    assert found.model.unet.dtype == torch.float32
    with pytest.raises(CheckpointError, match="none"):
        StableDiffusion.from_pretrained(str(tmp_path / "none"), torch.device("cpu"), 2)


def test_slerp_keeps_length_and_survives_equal_latents():
    """A straight line through the sphere loses contrast; an angle of zero must not divide by zero."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    ends_and_half = slerp(a, b, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.allclose(ends_and_half, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5], [0.0, 1.0]]), atol=1e-6)
    whole = torch.randn(1, 4, 8)
    assert torch.allclose(slerp(whole, whole, torch.tensor([0.5])), whole)
