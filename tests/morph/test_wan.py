"""WAN 2.1 between two frames, on a tiny pipeline of real classes."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.metrics import to_picture
from kontext_slider.morph import wan
from kontext_slider.morph.wan import WanMorpher
from tests.tiny import tiny_image, tiny_t5

pytest.importorskip("ftfy")
STRENGTHS = (0.0, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def model() -> WanImageToVideoPipeline:
    """FLF2V's parts: a causal video VAE of 8 x 8 x 4, UMT5, CLIP's vision tower, positions for two pictures."""
    torch.manual_seed(0)
    tokenizer = tiny_t5()[1]
    text = UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    pipe = WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=8),
        image_encoder=CLIPVisionModel(vision).eval(),
        transformer=WanTransformer3DModel(
            in_channels=36, out_channels=16, num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16,
            ffn_dim=16, num_layers=1, image_dim=8, added_kv_proj_dim=24, pos_embed_seq_len=2 * 5, rope_max_seq_len=32,
        ).eval(),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def morph(model, strengths=STRENGTHS, seed=0, edited=2, size=(48, 32), words="make it snow"):
    pair = tiny_image(*size, 1), tiny_image(*size, edited)
    frames = WanMorpher(model, side=32, num_frames=9, steps=2)(None, *pair, words, strengths, seed)
    return [to_picture(frame) for frame in frames]


def test_frames_are_those_of_the_video_at_even_times(model, monkeypatch):
    """Off by one, and strength 1 is not the last frame; squares for wide pictures, and nothing fits anything."""
    videos, decode = [], model.video_processor.postprocess_video
    monkeypatch.setattr(
        model.video_processor, "postprocess_video", lambda *args, **kw: videos.append(decode(*args, **kw)) or videos[-1]
    )
    frames = morph(model)
    (video,) = videos[0]
    assert len(video) == 9 and video[0].size in ((32, 16), (48, 16), (48, 32))
    expected = [to_picture(video[k].resize((48, 32), 1)) for k in (0, 2, 4, 8)]
    assert all(np.array_equal(frame, other) for frame, other in zip(frames, expected, strict=True))


def test_frames_depend_on_both_pictures_the_words_and_the_seed(model):
    """Without the last picture this is a video that goes anywhere."""
    frames = morph(model)
    assert np.array_equal(morph(model), frames)
    for other in (morph(model, edited=3), morph(model, words="turn it to gold"), morph(model, seed=1)):
        assert not np.array_equal(other, frames)


def test_a_saved_model_is_found_by_name_and_a_missing_one_is_a_sentence(model, tmp_path):
    """The hub's files name torchvision's image processor."""
    model.save_pretrained(tmp_path / "wan")
    where = torch.device("cpu"), torch.bfloat16
    found = WanMorpher.from_pretrained(str(tmp_path / "wan"), *where, offload=True).model
    dtypes = {name: getattr(found, name).dtype for name in ("transformer", "text_encoder", "vae", "image_encoder")}
    small, full = torch.bfloat16, torch.float32
    assert dtypes == {"transformer": small, "text_encoder": small, "vae": full, "image_encoder": full}
    with pytest.raises(CheckpointError, match="none"):
        WanMorpher.from_pretrained(str(tmp_path / "none"), *where)


def test_the_missing_package_is_named(monkeypatch):
    """diffusers imports without ftfy and fails at the first prompt with a NameError, after minutes of loading."""
    monkeypatch.setattr(wan, "is_ftfy_available", lambda: False)
    with pytest.raises(InvalidInput, match="pip install ftfy"):
        WanMorpher.from_pretrained("any", torch.device("cpu"), torch.float32)
