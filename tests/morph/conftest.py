"""A tiny Stable Diffusion and a tiny LLaVA-NeXT of real classes."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from tests.tiny import POOLED_DIM, tiny_clip


@pytest.fixture(scope="module")
def diffusion() -> StableDiffusionPipeline:
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
            parameter.mul_(0.1)  # a loud random network has no inverse
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


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> str:
    """The folder of a LLaVA-NeXT, as the hub's: an image processor that would be torchvision's, a chat template."""
    folder, side, pinpoints = tmp_path_factory.mktemp("llava"), 28, [[28, 56], [56, 28], [56, 56]]
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_ = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    bytes_.pre_tokenizer, bytes_.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_, eos_token="</s>", pad_token="</s>", bos_token="<s>")
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(
            "{% for m in messages %}[INST] {% for c in m.content %}{% if c.type == 'image' %}<image>\n"
            "{% else %}{{ c.text }}{% endif %}{% endfor %} [/INST]{% endfor %}"
        ),
    ).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(num_hidden_layers=2, image_size=side, patch_size=14, **sizes),
        text_config=MistralConfig(
            vocab_size=len(tokenizer), num_hidden_layers=1, num_key_value_heads=2, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **sizes,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
    )  # fmt: skip
    model = LlavaNextForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)  # of a quiet model, every picture has the same caption
    model.save_pretrained(folder)
    return str(folder)
