"""FreeMorph on a tiny Stable Diffusion of real classes."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from kontext_slider.errors import CheckpointError
from kontext_slider.metrics import to_picture
from kontext_slider.train.data.morph import find_morpher
from kontext_slider.train.data.morph.freemorph import (
    DOWN,
    UP,
    FreeMorph,
    SharedAttention,
    attention_shared,
    between_at,
    slerp,
    slerp_whole,
    to_blend,
    to_both,
    to_mean,
    to_self,
    with_fresh_detail,
)
from tests.tiny import POOLED_DIM, tiny_clip, tiny_image

STRENGTHS = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def model():
    """SD 2.1's parts: a VAE that halves, a UNet that halves once more, CLIP words, v-prediction."""
    torch.manual_seed(0)
    text_encoder, tokenizer = tiny_clip()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=POOLED_DIM,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    with torch.no_grad():
        for parameter in unet.conv_out.parameters():
            parameter.mul_(0.03)  # a loud random network has no inverse
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            prediction_type="v_prediction", beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_frames_go_from_one_picture_to_the_other(model):
    """The ends must be the codec's pictures, walked up and down: an inversion with the wrong timesteps loses them, and
    a slider would learn to damage at strength 0. What is between must be neither."""
    source, edited = tiny_image(32, 32, 1), tiny_image(32, 32, 2)
    morph = FreeMorph(model, steps=25)
    frames = [to_picture(frame) for frame in morph(None, source, edited, "make it snow", STRENGTHS, 0)]
    with torch.no_grad():
        coded = [to_picture(morph.decode(z, (32, 32))) for z in morph.encode([source, edited]).split(1)]
    way = np.abs(coded[0] - coded[1]).mean()
    for frame, end in ((frames[0], coded[0]), (frames[2], coded[1])):
        assert np.abs(frame - end).mean() < 0.2 * way
    assert all(0.3 * way < np.abs(frames[1] - frames[k]).mean() < 1.5 * way for k in (0, 2))


def test_the_same_seed_gives_the_same_frames_at_the_sources_size(model):
    """Resuming must not change data, and native resolution must not leak out."""
    pair = tiny_image(48, 32, 1), tiny_image(48, 32, 2)
    first, again = (FreeMorph(model, steps=2)(None, *pair, "make it snow", STRENGTHS, 3) for _ in range(2))
    assert all(a.size == (48, 32) and np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_unet_is_given_back_as_it_was(model):
    """A processor left behind would mix the pictures of whoever uses the UNet next."""
    before = model.unet.attn_processors
    shared = SharedAttention(torch.tensor(STRENGTHS))
    with pytest.raises(RuntimeError, match="stopped"), attention_shared(model.unet, shared):
        assert model.unet.attn_processors != before
        raise RuntimeError("stopped")
    assert model.unet.attn_processors == before


def test_attending_to_oneself_is_plain_attention(model):
    """The processor replaces the library's: without sharing it has to compute the same."""
    z, words = torch.randn(3, 4, 16, 16), torch.randn(3, 7, POOLED_DIM)
    with torch.no_grad():
        plain = model.unet(z, 500, words).sample
        with attention_shared(model.unet, SharedAttention(torch.tensor(STRENGTHS))):
            shared = model.unet(z, 500, words).sample
    assert torch.allclose(plain, shared, atol=1e-5)


@pytest.mark.parametrize("between", [to_self, to_mean, to_blend, to_both])
def test_ends_attend_to_themselves_and_rows_between_to_both(between):
    """If the ends saw the others, their reconstructions would show them; if a row at strength 0 saw the edit, so
    would the first frame."""
    query, key, value = (torch.randn(4, 2, 5, 8, generator=torch.Generator().manual_seed(k)) for k in range(3))
    own = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    answers = SharedAttention(torch.tensor([0.0, 0.0, 0.5, 1.0]), between).attend(query, key, value)
    assert torch.allclose(answers[[0, 3]], own[[0, 3]], atol=1e-6)
    at_source = torch.nn.functional.scaled_dot_product_attention(query[1:2], key[:1], value[:1])
    if between in (to_blend, to_both):
        assert torch.allclose(answers[1:2], at_source, atol=1e-4)
        assert not torch.allclose(answers[2], own[2], atol=1e-2)


def test_slerp_keeps_length_and_survives_equal_vectors():
    """A straight line through the sphere loses contrast; an angle of zero must not divide by zero."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    half = slerp(a, b, torch.tensor([[0.5]]))
    assert torch.allclose(half.norm(), torch.tensor(1.0))
    assert torch.allclose(slerp(a, a, torch.tensor([[0.5]])), a)
    whole = torch.randn(1, 4, 8)
    assert torch.allclose(slerp_whole(whole, whole, torch.tensor([0.5])), whole)


def test_fresh_detail_leaves_layout_and_scale():
    """Noise in the low frequencies would move things; more energy would turn up as grain."""
    z = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    fresh = with_fresh_detail(z, torch.Generator().manual_seed(2))
    means = torch.nn.functional.avg_pool2d(fresh - z, 8)
    assert means.abs().max() < 0.05 and (fresh - z).std() > 0.1
    assert fresh.std() == pytest.approx(z.std().item(), rel=0.05)


def test_schedules_cover_all_steps():
    """A gap at the start would be an IndexError after minutes of loading."""
    assert between_at(UP, 0.0) is to_self and between_at(DOWN, 0.0) is to_both
    assert between_at(UP, 0.99) is to_both and between_at(DOWN, 0.99) is to_self


def test_a_saved_model_is_found_by_name_and_a_missing_one_is_a_sentence(model, tmp_path):
    """The command line names a folder or a hub id."""
    model.save_pretrained(tmp_path / "sd")
    where = torch.device("cpu"), torch.float32
    assert isinstance(find_morpher("freemorph", *where, str(tmp_path / "sd")), FreeMorph)
    with pytest.raises(CheckpointError, match="--freemorph-model"):
        find_morpher("freemorph", *where, str(tmp_path / "none"))
