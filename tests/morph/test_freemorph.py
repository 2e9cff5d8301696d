"""FreeMorph on a tiny Stable Diffusion of real classes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as attend

from kontext_slider.metrics import to_picture
from kontext_slider.morph.freemorph import (
    FreeMorph,
    SharedAttention,
    attending_down,
    attending_up,
    attention_shared,
    to_both_ends,
    to_ends,
    to_ends_and_self,
    to_mean,
    to_self,
    with_fresh_detail,
)
from kontext_slider.morph.stable_diffusion import StableDiffusion
from tests.tiny import POOLED_DIM, tiny_image

A = torch.tensor([0.0, 0.0, 0.5, 1.0])


def captions(source, edited, instruction):
    return "a temple", "a temple in the snow"


def morph(diffusion, steps=5, seed=0, size=(32, 32), captions=captions, strengths=(0.0, 0.5, 1.0)):
    pair = tiny_image(*size, 1), tiny_image(*size, 2)
    frames = FreeMorph(StableDiffusion(diffusion, steps), captions)(None, *pair, "make it snow", strengths, seed)
    return [to_picture(frame) for frame in frames]


def test_frames_go_from_one_picture_to_the_other(diffusion):
    """Rows that are mixed up would train a slider to jump, or backwards."""
    first, middle, last = morph(diffusion, steps=10)
    sd = StableDiffusion(diffusion, steps=1)
    coded = [to_picture(sd.decode(sd.encode([tiny_image(32, 32, k)]), (32, 32))) for k in (1, 2)]
    assert np.abs(first - coded[0]).mean() < np.abs(first - coded[1]).mean()
    assert np.abs(last - coded[1]).mean() < np.abs(last - coded[0]).mean()
    assert min(np.abs(middle - end).mean() for end in (first, last)) > 0.01


def test_frames_are_a_function_of_seed_and_captions_at_the_sources_size(diffusion):
    """Resuming must not change data, native resolution must not leak out, and words that are not read are no words."""
    first, again = (morph(diffusion, seed=3, size=(48, 32)) for _ in range(2))
    assert all(frame.shape == (32, 48, 3) for frame in first) and np.array_equal(first, again)
    assert not np.array_equal(morph(diffusion, seed=4, size=(48, 32))[1], first[1])
    others = morph(diffusion, seed=3, size=(48, 32), captions=lambda *pair: ("a temple", "a red ball"))
    assert not np.array_equal(others[2], first[2])


def test_strengths_in_any_order_each_get_their_frame(diffusion):
    """A caller that asks for 1/6 to 1 without the source, or twice, must not get a neighbour's frame."""
    ordered = morph(diffusion, strengths=(0.0, 0.25, 0.75, 1.0))
    shuffled = morph(diffusion, strengths=(0.75, 1.0, 0.25, 0.75))
    assert all(np.array_equal(shuffled[k], ordered[n]) for k, n in enumerate((2, 3, 1, 2)))


def test_attention_changes_at_the_published_steps():
    """Of 50 steps up, 40 are walked: to 15 and at 30 plain, between them the mean, then both ends. Of 40 down: 8 to the
    ends, 16 to ends and self."""
    up = [attending_up(step, 50) for step in range(40)]
    assert up == [to_self] * 16 + [to_mean] * 14 + [to_self] + [to_both_ends] * 9
    down = [attending_down(step, 40) for step in range(40)]
    assert down == [to_ends] * 8 + [to_ends_and_self] * 16 + [to_self] * 16


def test_the_unet_is_given_back_as_it_was(diffusion):
    """A processor left behind would mix the pictures of whoever uses the UNet next."""
    before = diffusion.unet.attn_processors
    with pytest.raises(RuntimeError, match="stopped"), attention_shared(diffusion.unet, SharedAttention(A)):
        assert diffusion.unet.attn_processors != before
        raise RuntimeError("stopped")
    assert diffusion.unet.attn_processors == before


def test_attending_to_oneself_is_plain_attention(diffusion):
    """The processor replaces the library's, to pictures and to words: without sharing it has to compute the same."""
    z, words = torch.randn(3, 4, 16, 16), torch.randn(3, 7, POOLED_DIM)
    with torch.no_grad():
        plain = diffusion.unet(z, 500, words).sample
        with attention_shared(diffusion.unet, SharedAttention(A)):
            shared = diffusion.unet(z, 500, words).sample
    assert torch.allclose(plain, shared, atol=1e-5)


@pytest.mark.parametrize("tokens", [5, 7])
def test_rows_attend_to_what_their_names_say(tokens):
    """A row at strength 0 that saw the edit would show it; ends that saw each other on the way down would not come
    back. For the tokens of pictures and of words."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(4, 2, n, 8, generator=draw) for n in (5, tokens, tokens))
    own = attend(query, key, value)
    first, last = (attend(query, key[[k] * 4], value[[k] * 4]) for k in (0, 3))
    assert torch.allclose(to_mean(query, key, value, A), own.mean(0).expand_as(own), atol=1e-6)
    assert torch.allclose(to_both_ends(query, key, value, A), (first + last) / 2, atol=1e-6)
    ends, with_self = to_ends(query, key, value, A), to_ends_and_self(query, key, value, A)
    assert torch.allclose(ends, torch.stack([first[0], first[1], (first + last)[2] / 2, last[3]]), atol=1e-6)
    assert torch.allclose(with_self[[0, 3]], own[[0, 3]], atol=1e-6)
    both = attend(query[1:2], torch.cat([key[1:2], key[:1]], 2), torch.cat([value[1:2], value[:1]], 2))
    assert torch.allclose(with_self[1:2], both, atol=1e-6)


def test_fresh_detail_is_the_highest_frequencies_only():
    """Noise in the low frequencies would move things; another draw for each row would flicker."""
    z = torch.randn(2, 4, 96, 96, generator=torch.Generator().manual_seed(1))
    fresh = with_fresh_detail(z, torch.Generator().manual_seed(2))
    before, after = (torch.fft.fftshift(torch.fft.fft2(x), dim=(2, 3)) for x in (z, fresh))
    kept = torch.isclose(before, after, atol=1e-2).all(dim=(0, 1))
    assert kept[6:91, 6:91].all() and not kept[:6].any() and not kept[:, 91:].any()
    assert torch.allclose(after[0, :, :6], after[1, :, :6], atol=1e-2)
