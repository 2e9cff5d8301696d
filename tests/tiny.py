"""Tiny random pipelines of real classes, made on the spot: no download, a few hundred kilobytes, CPU.

The VAE halves the picture once and the transformer packs 2 x 2, so sides are multiples of 4 and a 32-pixel picture
is 64 tokens. Widths: transformer 32, pooled text 24, T5 text 20, latents 4 channels.
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import StrengthProjector

INNER_DIM, POOLED_DIM, TEXT_DIM, HIDDEN_DIM = 32, 24, 20, 48
SIDE = 32
EDIT_DEFAULTS = {"size": SIDE, "steps": 2, "guidance": 2.5, "max_sequence_length": 16}
KNOWN_INSTRUCTIONS = {"snow": ["make it snow", "let it snow"], "night": ["make it night"]}
SIZES = {"height": SIDE, "width": SIDE, "max_area": SIDE * SIDE, "_auto_resize": False}
PLAIN = {**SIZES, "num_inference_steps": 2, "max_sequence_length": 16}
INSTRUCTION = "make it snow"


def tiny_transformer(**changes) -> FluxTransformer2DModel:
    sizes = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_DIM,
        "pooled_projection_dim": POOLED_DIM,
        "guidance_embeds": True,
        "axes_dims_rope": (4, 6, 6),
    }
    return FluxTransformer2DModel(**{**sizes, **changes}).eval()


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def tiny_clip() -> tuple[CLIPTextModel, CLIPTokenizer]:
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(pieces),
        hidden_size=POOLED_DIM,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config).eval(), tokenizer


def tiny_t5() -> tuple[T5EncoderModel, T5Tokenizer]:
    letters = string.ascii_letters + string.digits + string.punctuation
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters]
    tokenizer = T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        tie_word_embeddings=True,
    )
    return T5EncoderModel(config).eval(), tokenizer


def tiny_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def tiny_projector(**changes) -> StrengthProjector:
    sizes = {"pooled_dim": POOLED_DIM, "hidden_dim": HIDDEN_DIM, "modulation_dim": INNER_DIM}
    return StrengthProjector(**{**sizes, **changes}).eval()


def tiny_pipeline(seed: int = 0, *, slider: bool = True, rank: int = 4, **config) -> KontextSliderPipeline:
    """The same weights for the same seed. With `slider`, a random projector and LoRA, both with visible effect.

    `config` (`edit_defaults`, `known_instructions`) goes to the pipeline; EDIT_DEFAULTS where not given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder, tokenizer = tiny_clip()
        text_encoder_2, tokenizer_2 = tiny_t5()
        pipe = KontextSliderPipeline(
            scheduler=tiny_scheduler(),
            vae=loud(tiny_vae()),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            transformer=loud(tiny_transformer()),
            **{"edit_defaults": dict(EDIT_DEFAULTS), **config},
        )
        pipe.set_progress_bar_config(disable=True)
        if slider:
            pipe.add_slider(tiny_projector(), rank)
            shake(pipe.slider_parameters(), 0.2)
            shake(pipe.slider_projector.parameters(), 0.6)
    return pipe


def loud(model: torch.nn.Module) -> torch.nn.Module:
    """Twice a fresh model's weights: with less, the text, and with it the slider, hardly reaches the picture."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    return model


def shake(parameters, amount: float) -> None:
    """Random values in place, so that no part is invisible for being zero or small."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=amount)


def tiny_image(width: int = SIDE, height: int = SIDE, seed: int = 0) -> Image.Image:
    """Smooth colours, so that resizing it means something."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_authors_layout(folder: Path, seed: int = 7, rank: int = 4) -> Path:
    """A slider for `tiny_pipeline` as the authors publish theirs: `slider_projector.pth` and the LoRA file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector, transformer = tiny_projector(), tiny_transformer()
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)), "default")
        lora = [p for name, p in transformer.named_parameters() if "lora_" in name]
        shake(lora, 0.2)
        shake(projector.parameters(), 0.6)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(projector.state_dict(), folder / "slider_projector.pth")
    tensors = {f"transformer.{k}": v for k, v in get_peft_model_state_dict(transformer).items()}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return folder


TARGETS = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
)
