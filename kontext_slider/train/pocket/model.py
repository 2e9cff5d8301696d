"""The pocket model's parts: the classes of FLUX.1 Kontext at a hundredth of the width, made from nothing.

Tokens are words: both tokenizers are built from the instructions themselves, with letters to fall back on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from kontext_slider.errors import InvalidInput
from kontext_slider.files import put_in_place, writing
from kontext_slider.model_folder import check_files, check_part, write_checksums
from kontext_slider.train.pocket.start import start_as_copy

SHIFT = 3.0  # of the noise levels: of two steps, the second starts at .75, where noise hides the faults of the first


@dataclass(frozen=True)
class PocketSizes:
    """Widths and depths. `text` is the width of both text encoders, hence of the pooled embedding."""

    heads: int = 4
    head_dim: int = 64
    rope_axes: tuple[int, int, int] = (8, 28, 28)
    double_blocks: int = 2
    single_blocks: int = 4
    latent_channels: int = 48
    text: int = 128
    text_layers: int = 2
    text_length: int = 16


def build_clip_tokenizer(texts: list[str], length: int) -> CLIPTokenizer:
    """Byte-pair encoding, trained until every word of `texts` is one token. The same texts give the same numbers."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(False)])
    words = {word for text in texts for word, _ in bpe.pre_tokenizer.pre_tokenize_str(text.lower())}
    endings = sorted({f"{word[-1]}</w>" for word in words})  # left to itself, the trainer numbers them at random
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>", *endings],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    model = json.loads(bpe.to_str())["model"]
    return CLIPTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], model_max_length=length)


def build_t5_tokenizer(texts: list[str], length: int) -> T5TokenizerFast:
    """A unigram vocabulary of whole words, in lower case and capitalised, and of single letters."""
    words = sorted({word for text in texts for word in text.lower().split()})
    words = list(dict.fromkeys([*words, *(word.capitalize() for word in words)]))
    letters = [chr(code) for code in range(33, 127)]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [*((f"▁{word}", -2.0) for word in words), ("▁", -6.0), *((letter, -8.0) for letter in letters)]
    seen = dict(reversed(specials + pieces))
    vocab = [(piece, seen[piece]) for piece in dict.fromkeys(piece for piece, _ in specials + pieces)]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=length)


def build_text_encoders(sizes: PocketSizes, clip_tokens: CLIPTokenizer, t5_tokens: T5TokenizerFast):
    """Random CLIPTextModel (its pooled output) and T5EncoderModel (its token outputs), both `sizes.text` wide."""
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokens),
            hidden_size=sizes.text,
            intermediate_size=2 * sizes.text,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=4,
            projection_dim=sizes.text,
            max_position_embeddings=sizes.text_length,
            bos_token_id=clip_tokens.bos_token_id,
            eos_token_id=clip_tokens.eos_token_id,
            pad_token_id=clip_tokens.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokens),
            d_model=sizes.text,
            d_kv=sizes.text // 4,
            d_ff=2 * sizes.text,
            num_layers=sizes.text_layers,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )
    return clip, t5


def build_transformer(sizes: PocketSizes) -> FluxTransformer2DModel:
    """A FluxTransformer2DModel that starts by copying the source."""
    transformer = FluxTransformer2DModel(
        in_channels=4 * sizes.latent_channels,
        num_layers=sizes.double_blocks,
        num_single_layers=sizes.single_blocks,
        attention_head_dim=sizes.head_dim,
        num_attention_heads=sizes.heads,
        joint_attention_dim=sizes.text,
        pooled_projection_dim=sizes.text,
        axes_dims_rope=sizes.rope_axes,
    )
    start_as_copy(transformer)
    return transformer


def build_tokenizers(texts: list[str], length: int) -> dict:
    """Both tokenizers, by their names in the pipeline."""
    return {"tokenizer": build_clip_tokenizer(texts, length), "tokenizer_2": build_t5_tokenizer(texts, length)}


def kept_tokenizers(folder: Path, texts: list[str], length: int) -> dict:
    """As `build_tokenizers`, built once for a run and kept in `folder`: an embedding belongs to a word's number, so a
    run that is resumed, perhaps by a newer version, must number its words as before.

    Raises InvalidInput where they are there and cannot be read."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with writing(folder):
            for name, tokenizer in build_tokenizers(texts, length).items():
                tokenizer.save_pretrained(partial / name)
            write_checksums(partial, (file.relative_to(partial).as_posix() for file in partial.glob("*/*")))
            put_in_place(partial, folder)
    kinds = {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast}
    try:
        check_files(folder)
        for name, kind in kinds.items():
            check_part(folder / name, kind)
        return {name: kind.from_pretrained(folder / name, local_files_only=True) for name, kind in kinds.items()}
    except Exception as error:  # the readers raise bare exceptions as well
        raise InvalidInput(
            f"The words of the run, {folder}, cannot be read ({error}). Bring the folder back, or train in a new one."
        ) from error


def build_parts(tokenizers: dict, sizes: PocketSizes, seed: int) -> dict:
    """Every component of the pipeline but the codec, with weights drawn from `seed`."""
    torch.manual_seed(seed)
    clip, t5 = build_text_encoders(sizes, tokenizers["tokenizer"], tokenizers["tokenizer_2"])
    return {
        **tokenizers,
        "scheduler": FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
        "text_encoder": clip,
        "text_encoder_2": t5,
        "transformer": build_transformer(sizes),
    }


@torch.no_grad()
def load_start(folder: Path, parts: dict) -> None:
    """Take the weights of an earlier pocket model of the same sizes. Words that both know keep their embedding."""
    parts["transformer"].load_state_dict(FluxTransformer2DModel.from_pretrained(folder / "transformer").state_dict())
    for encoder, tokenizer, model in (
        ("text_encoder", "tokenizer", CLIPTextModel),
        ("text_encoder_2", "tokenizer_2", T5EncoderModel),
    ):
        earlier = model.from_pretrained(folder / encoder, dtype=torch.float32)
        before = type(parts[tokenizer]).from_pretrained(folder / tokenizer).get_vocab()
        now = parts[tokenizer].get_vocab()
        shared = [word for word in now if word in before]
        rows, old_rows = [now[word] for word in shared], [before[word] for word in shared]
        state = earlier.state_dict()
        same = {k for k, v in parts[encoder].state_dict().items() if k in state and v.shape == state[k].shape}
        parts[encoder].load_state_dict({name: state[name] for name in same}, strict=False)
        parts[encoder].get_input_embeddings().weight[rows] = earlier.get_input_embeddings().weight[old_rows]
