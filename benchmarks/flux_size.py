"""FLUX.1 Kontext's sizes with random weights: how long a step takes does not depend on their values.

The text encoders have one layer each, of the right widths: an edit opens faster than with the real ones, and so does a
whole pipeline call, which favours what we are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from kontext_slider.base import modulation_names
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import StrengthProjector
from kontext_slider.train.pocket.model import build_clip_tokenizer, build_t5_tokenizer

FULL = {"guidance_embeds": True}  # the library's defaults are FLUX.1's sizes
TINY = {  # the same classes, for a run of the script itself on a CPU
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "axes_dims_rope": (4, 6, 6),
    "guidance_embeds": True,
}


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """New weights are of this dtype and on this device at once: 24 GB need not pass through main memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def random_pipeline(
    words: list[str], device: torch.device, dtype: torch.dtype, tiny: bool, steps: int
) -> KontextSliderPipeline:
    """A pipeline with a slider, ready to render; `words` are the instructions that it will be given."""
    torch.manual_seed(0)
    clip_tokens, t5_tokens = build_clip_tokenizer(words, 77), build_t5_tokenizer(words, 512)
    with made_on(device, dtype):
        transformer = FluxTransformer2DModel(**(TINY if tiny else FULL)).eval()
        config = transformer.config
        channels = (8, 8, 8, 8) if tiny else (128, 256, 512, 512)
        vae = AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            norm_num_groups=min(32, channels[0]),
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ).eval()
        clip = CLIPTextModel(
            CLIPTextConfig(vocab_size=len(clip_tokens), hidden_size=config.pooled_projection_dim, num_hidden_layers=1)
        )
        t5 = T5EncoderModel(
            T5Config(vocab_size=len(t5_tokens), d_model=config.joint_attention_dim, d_ff=1024, num_layers=1)
        )
    pipe = KontextSliderPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=clip.eval(),
        tokenizer=clip_tokens,
        text_encoder_2=t5.eval(),
        tokenizer_2=t5_tokens,
        transformer=transformer,
        edit_defaults={"size": 512, "steps": steps, "guidance": 2.5, "max_sequence_length": 512},
    )
    projector = StrengthProjector(config.pooled_projection_dim, 48 if tiny else 6144, transformer.inner_dim)
    pipe.add_slider(projector)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype)


def quantized(pipe: KontextSliderPipeline) -> KontextSliderPipeline:
    """The pipeline, its blocks' matrices as `load_pipeline(quantize="int8")` has them, where they are. Returns it."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    transformer = pipe.transformer
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        quantize_(block, Int8WeightOnlyConfig(set_inductor_config=False), filter_fn=_is_kept_in_eight_bits)
    transformer.is_quantized = True
    return pipe


def _is_kept_in_eight_bits(layer: torch.nn.Module, name: str) -> bool:
    is_modulation = any(part in modulation_names() for part in name.split("."))
    return isinstance(layer, torch.nn.Linear) and not is_modulation and "lora_" not in name
