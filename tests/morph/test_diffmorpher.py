"""DiffMorpher on a tiny Stable Diffusion of real classes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import rms
from kontext_slider.morph.diffmorpher import (
    DiffMorpher,
    EndStates,
    ends_attended,
    lora_attached,
    mixed_noise,
    respaced,
    values_of,
)
from kontext_slider.morph.stable_diffusion import StableDiffusion
from tests.tiny import tiny_image

PAIR = tiny_image(32, 32, 1), tiny_image(32, 32, 2)


def morph(diffusion, strengths=(0.0, 0.25, 0.5, 0.75, 1.0), seed=0, distance=rms, captions=("a temple", "snow")):
    morpher = DiffMorpher(StableDiffusion(diffusion, 5), lambda *given: captions, distance, lora_steps=2)
    return [to_picture(frame) for frame in morpher(None, *PAIR, "make it snow", strengths, seed)]


def test_frames_go_from_one_picture_to_the_other(diffusion):
    """Ends that come back as the other, or frames in the order of rendering, where the ends come first."""
    frames = morph(diffusion)
    assert np.abs(frames[0] - to_picture(PAIR[0])).mean() > 0 and frames[0].shape == (32, 32, 3)
    to_first, to_last = ([np.abs(frame - frames[end]).mean() for frame in frames] for end in (0, -1))
    assert to_first == sorted(to_first) and to_last == sorted(to_last, reverse=True) and to_first[1] > 0


def test_frames_are_a_function_of_seed_and_captions_and_the_unet_is_given_back(diffusion):
    """Resuming must not change data. A LoRA or a processor left behind would be the next pair's."""
    weights = {name: value.clone() for name, value in diffusion.unet.state_dict().items()}
    processors, expected = diffusion.unet.attn_processors, torch.random.get_rng_state()
    first, again, other = (morph(diffusion, seed=seed, strengths=(0.5,)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(morph(diffusion, seed=1, strengths=(0.5,), captions=("a temple", "gold")), first)
    after = diffusion.unet.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], value) for name, value in weights.items())
    assert diffusion.unet.attn_processors == processors and torch.equal(torch.random.get_rng_state(), expected)


def test_the_lora_learns_its_picture_alone(diffusion):
    """Of 200 steps at the published rate: the loss on the picture falls; trained on nothing, or with gradients that do
    not reach it, it would stay. The base weights must not move, and every attention layer takes part."""
    sd = StableDiffusion(diffusion, 5)
    text, z = sd.encode_text("a temple"), sd.encode([PAIR[0]])
    noise, timestep = torch.randn(z.shape, generator=torch.Generator().manual_seed(9)), torch.tensor([400])
    target = sd.down.get_velocity(z, noise, timestep)

    @torch.no_grad()
    def loss():
        return float(mse_loss(diffusion.unet(sd.down.add_noise(z, noise, timestep), timestep, text).sample, target))

    morpher = DiffMorpher(sd, lambda *given: ("", ""), rms, lora_steps=30)
    with lora_attached(diffusion.unet, 0) as lora:
        untrained, fresh = loss(), values_of(lora)
        assert len(lora) == 2 * 4 * len(diffusion.unet.attn_processors)
        morpher.fit(lora, fresh, PAIR[0], text, 0)
        trained = loss()
        assert all((new - old).abs().max() > 0 for new, old in zip(lora, fresh, strict=True))
    assert trained < untrained
    assert loss() == pytest.approx(untrained)


def test_frames_in_between_attend_to_the_ends_for_the_first_steps_on_the_way_up(diffusion):
    """With the ends' tokens in the wrong layers, steps or shares there is no error to see, only a worse baseline."""
    states, sd = EndStates(steps=3), StableDiffusion(diffusion, 5)
    z, text = sd.encode([PAIR[0]]), sd.encode_text("")
    with torch.no_grad(), ends_attended(diffusion.unet, states):
        own = diffusion.unet(z, 400, text).sample
        states.a = 1.0
        assert torch.equal(diffusion.unet(z, 400, text).sample, own)
        assert {layer for layer, a, step in states.kept} == {
            name
            for name in diffusion.unet.attn_processors
            if name.startswith("up_blocks") and name.endswith("attn1.processor")
        }
        first, last = torch.zeros(1, 3, 4), torch.ones(1, 3, 4)
        states.kept = {("layer", 0.0, 1): first, ("layer", 1.0, 1): last}
        states.a, states.step = 0.25, 1
        assert torch.equal(states.seen_by("layer", first), torch.full((1, 3, 4), 0.25))
        states.step = 3
        assert states.seen_by("layer", first) is None


def test_mixed_noise_has_the_ends_at_the_ends_and_mixed_statistics_between():
    """Noise whose channels drift from those of the ends shifts the colours of every frame in between."""
    draw = torch.Generator().manual_seed(0)
    first, last = (torch.randn(1, 4, 8, 8, generator=draw) * scale + shift for scale, shift in ((1, 0.2), (0.5, -0.4)))
    assert torch.allclose(mixed_noise(first, last, 0.0), first, atol=1e-5)
    assert torch.allclose(mixed_noise(first, last, 1.0), last, atol=1e-5)
    third = mixed_noise(first, last, 0.25)
    for statistic in (torch.mean, torch.std):
        ends = torch.lerp(statistic(first, (2, 3)), statistic(last, (2, 3)), 0.25)
        assert torch.allclose(statistic(third, (2, 3)), ends, atol=1e-5)


def test_shares_are_respaced_to_even_distances():
    """Backwards, it would make jumps larger; of equal pictures it must not divide by zero."""
    path = np.array([0.0, 3.0, 4.0])  # three quarters of the way before half of the mixture
    matrix = np.abs(path[:, None] - path)
    assert respaced([0.0, 0.5, 1.0], matrix) == pytest.approx([0.0, 1 / 3, 1.0])
    assert respaced([0.0, 0.5, 1.0], np.zeros((3, 3))) == [0.0, 0.5, 1.0]
