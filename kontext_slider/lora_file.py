"""A slider's LoRA on disk: read in the names that any program writes, written in diffusers'.

    diffusers, ai-toolkit   transformer.transformer_blocks.0.attn.to_q.lora_A.weight
    peft                    base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight
    ComfyUI                 diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight, .alpha
    kohya                   lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight, .alpha
    XLabs                   double_blocks.0.processor.qkv_lora1.down.weight

diffusers' translation silently leaves out unknown names, drops some alphas and supports one width of the single blocks.
A slider needs every weight exactly, so the names are translated here.

Legend: R rank, I input features, O output features, D width of the transformer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import CheckpointError
from .files import open_whole, read_regular
from .hub import ADAPTER_CONFIG, LORA_FILE
from .lora import PREFIX, LoraWeights

_DOWN, _UP = ("lora_A", "lora_down", "lora.down", "down"), ("lora_B", "lora_up", "lora.up", "up")
_MATRIX = re.compile(r"(.+?)\.(lora_[AB]|lora[._]down|lora[._]up|down|up)(?:\.default)?\.weight")
_ALPHA = re.compile(r"(.+?)(?:\.lora_A(?:\.weight)?)?\.alpha")
MAX_CONFIG = 16 * 2**20  # bytes of an adapter_config.json
_PREFIX = re.compile(r"base_model\.model\.|transformer\.|(?:model\.)?diffusion_model\.|lora_unet_|lora_transformer_")
_PATTERN = re.compile(r"[\w.\-\\^$*]{1,200}")  # of layers' names; more can take for ever to match
_TEXT_ENCODER = re.compile(r"(?:base_model\.model\.)?(?:text_encoder|text_model|lora_te)")
_BLOCK = re.compile(r"(double_|single_|single_transformer_|transformer_)blocks_(\d+)_(.+)")
_UNSUPPORTED = {  # a part of a key between its dots -> what it belongs to
    re.compile("dora_scale|lora_magnitude_vector"): "DoRA",
    re.compile("hada_.+"): "LoHa",
    re.compile("lokr_.+"): "LoKr",
    re.compile("oft_.+"): "OFT",
    re.compile("lora_mid"): "LoCon",
    re.compile("diff|diff_b"): "full-weight differences",
    re.compile("bias"): "biases",
}
_IMAGE_QKV, _TEXT_QKV = "attn.to_q attn.to_k attn.to_v", "attn.add_q_proj attn.add_k_proj attn.add_v_proj"
# Black Forest Labs' names of layers -> diffusers'. Several: one matrix there, its rows in this order.
_DOUBLE = {
    "img_attn_qkv": _IMAGE_QKV,
    "txt_attn_qkv": _TEXT_QKV,
    "img_attn_proj": "attn.to_out.0",
    "txt_attn_proj": "attn.to_add_out",
    "img_mlp_0": "ff.net.0.proj",
    "img_mlp_2": "ff.net.2",
    "txt_mlp_0": "ff_context.net.0.proj",
    "txt_mlp_2": "ff_context.net.2",
    "img_mod_lin": "norm1.linear",
    "txt_mod_lin": "norm1_context.linear",
    "processor_qkv_lora1": _IMAGE_QKV,
    "processor_qkv_lora2": _TEXT_QKV,
    "processor_proj_lora1": "attn.to_out.0",
    "processor_proj_lora2": "attn.to_add_out",
}
_SINGLE = {
    "linear1": f"{_IMAGE_QKV} proj_mlp",
    "linear2": "proj_out",
    "modulation_lin": "norm.linear",
    "processor_qkv_lora": _IMAGE_QKV,
    "processor_proj_lora": "proj_out",
}
_EMBEDDERS = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    **{f"{foreign}_in_layer": f"time_text_embed.{own}.linear_1" for foreign, own in _EMBEDDERS.items()},
    **{f"{foreign}_out_layer": f"time_text_embed.{own}.linear_2" for foreign, own in _EMBEDDERS.items()},
    "final_layer_linear": "proj_out",
    "final_layer_adaLN_modulation_1": "norm_out.linear",
}


def read_lora(folder: Path) -> LoraWeights:
    """The LoRA file of a folder, in the names of any program listed above. Alphas that are not among the tensors are
    those of the file's header or of peft's `adapter_config.json` beside it.

    Raises CheckpointError when the file is missing or damaged, or is no plain LoRA of a transformer.
    """
    tensors, header = _open_lora(folder / LORA_FILE)
    config, beside = header, folder / ADAPTER_CONFIG
    if header is None and beside.is_file():  # by peft
        try:
            config = dict(json.loads(read_regular(beside, MAX_CONFIG)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{beside.name} is not readable as the configuration of a LoRA: {error}") from error
    pairs = translate(tensors, config, LORA_FILE)
    alphas = {PREFIX + name: pair.alpha for name, pair in pairs.items() if pair.alpha is not None}
    matrices = {f"{PREFIX}{name}.lora_A.weight": pair.down for name, pair in pairs.items()}
    matrices |= {f"{PREFIX}{name}.lora_B.weight": pair.up for name, pair in pairs.items()}
    return LoraWeights(matrices, alphas)


def write_lora(folder: Path, lora: LoraWeights) -> None:
    """`pytorch_lora_weights.safetensors`, as diffusers writes and reads it, its configuration inside."""
    header = {"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(lora.config(), indent=2, sort_keys=True)}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in lora.tensors.items()}
    with open_whole(folder / LORA_FILE) as file:
        save_file(tensors, file.name, metadata=header)


def _open_lora(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """What a LoRA file holds, and its configuration (a LoraConfig as a dict) where diffusers has put one inside."""
    if not file.is_file():
        raise CheckpointError(f"The slider's {file.name} is missing. Download the whole slider again.")
    try:
        tensors = load_file(file)
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
        config = None if text is None else {k.removeprefix(PREFIX): v for k, v in json.loads(text).items()}
    except (OSError, ValueError, AttributeError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{file.name} is not readable as LoRA weights: {error}") from error
    if not tensors:
        raise CheckpointError(f"{file.name} holds nothing. Download the whole slider again.")
    return tensors, config


@dataclass(frozen=True)
class Pair:
    """The LoRA of one layer: it adds alpha / R * up @ down to the layer's weight. No alpha: R."""

    down: Tensor  # (R, I)
    up: Tensor  # (O, R)
    alpha: float | None = None


def translate(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None, file: str) -> dict[str, Pair]:
    """The pairs of a LoRA `file` by diffusers' names of the layers, such as "transformer_blocks.0.attn.to_q".

    `config`: a LoraConfig as a dict, with the alphas that are not among the tensors. Raises CheckpointError for
    everything that is no plain LoRA of a FLUX transformer.
    """
    if config is not None and config.get("use_dora"):
        _parse("dora_scale", file)
    parts: dict[str, dict[str, Tensor]] = {}  # by the file's own names of the layers
    for key, tensor in tensors.items():
        name, kind = _parse(key, file)
        parts.setdefault(name, {})[kind] = tensor
    pairs: dict[str, Pair] = {}
    for name, found in parts.items():
        pair, prefix = _pair(name, found, file), _PREFIX.match(name)
        bare = name[prefix.end() :] if prefix else name
        pair = pair if config is None or pair.alpha is not None else replace(pair, alpha=_alpha(config, bare, pair))
        layers = _layers(name, bare, file)
        for layer, part in zip(layers, _split(name, bare, pair, len(layers), file), strict=True):
            if layer in pairs:
                raise CheckpointError(f"{file} has two LoRAs for the layer {layer!r}. Keep one of them.")
            pairs[layer] = part
    return pairs


def _parse(key: str, file: str) -> tuple[str, str]:
    """(layer, "down", "up" or "alpha") of a key."""
    for word, kind in _UNSUPPORTED.items():
        if any(map(word.fullmatch, key.split("."))):
            raise CheckpointError(
                f"{file} holds {kind} ({key!r}). A slider's LoRA is two matrices a layer. Save it as a plain LoRA."
            )
    if _TEXT_ENCODER.match(key):
        raise CheckpointError(
            f"{file} also changes a text encoder ({key!r}), which a slider cannot do. Save the LoRA of the transformer "
            "alone."
        )
    if found := _MATRIX.fullmatch(key):
        return found[1], "down" if found[2] in _DOWN else "up"
    if found := _ALPHA.fullmatch(key):
        return found[1], "alpha"
    raise _unknown(key, file)


def _pair(name: str, parts: dict[str, Tensor], file: str) -> Pair:
    if not {"down", "up"} <= parts.keys():
        raise CheckpointError(f"{file} has one matrix of two for {name!r}. Download it again.")
    down, up, alpha = parts["down"], parts["up"], parts.get("alpha")
    _check_shapes(name, down, up, file, down.ndim == up.ndim == 2 and up.shape[1] == down.shape[0] > 0)
    for matrix in (down, up):
        if not matrix.is_floating_point() or not matrix.isfinite().all():
            raise CheckpointError(f"{file} has values for {name!r} that are no numbers. Download it again.")
    if alpha is not None and (alpha.numel() != 1 or alpha.is_complex() or not math.isfinite(alpha.item())):
        raise CheckpointError(f"{file} has an alpha for {name!r} that is not one finite number. Download it again.")
    return Pair(down, up, None if alpha is None else float(alpha.item()))


def _alpha(config: Mapping[str, Any], name: str, pair: Pair) -> float | None:
    """The alpha of a layer in a LoraConfig. Rank-stabilised LoRA divides by the root of the rank."""

    def of_layer(setting: str, pattern: str) -> Any:
        patterns = config.get(pattern) or {}
        if odd := [key for key in patterns if not _PATTERN.fullmatch(key) or key.count("*") > 2]:
            raise CheckpointError(f"The LoRA's configuration has the pattern {odd[0]!r:.60}, which names no layers.")
        return patterns.get(get_pattern_key(list(patterns), name), config.get(setting))

    alpha, rank = of_layer("lora_alpha", "alpha_pattern"), pair.down.shape[0]
    if of_layer("r", "rank_pattern") not in (None, rank):
        raise CheckpointError(f"The LoRA's configuration gives {name!r} another rank than its weights ({rank}) have.")
    if alpha is not None and (not isinstance(alpha, int | float) or not abs(alpha) < 1e9):
        raise CheckpointError(f"The LoRA's configuration has an alpha for {name!r} that is no finite number.")
    return alpha if alpha is None else float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)


def _layers(name: str, bare: str, file: str) -> tuple[str, ...]:
    """diffusers' layers of a layer in any program's name."""
    flat = bare.replace(".", "_")
    found = _BLOCK.fullmatch(flat)
    if found:
        is_single, is_foreign = found[1].startswith("single"), not found[1].endswith("transformer_")
        table = _SINGLE if is_single else _DOUBLE
        stem = f"{'single_' if is_single else ''}transformer_blocks.{found[2]}."
        layers = table.get(found[3]) if is_foreign else _own(table, found[3])
    else:
        stem, layers = "", _OUTSIDE.get(flat) or _own(_OUTSIDE, flat)
    if layers is not None:
        return tuple(stem + layer for layer in layers.split())
    if name.startswith(("transformer.", "base_model.model.")):
        return (bare,)  # a layer of another transformer, perhaps: `check_fit` compares it with the one that is there
    raise _unknown(name, file)


def _own(table: Mapping[str, str], flat: str) -> str | None:
    """diffusers' own layer, whose name may have underscores in the place of dots."""
    return next((layer for layer in " ".join(table.values()).split() if layer.replace(".", "_") == flat), None)


def _split(name: str, bare: str, pair: Pair, count: int, file: str) -> list[Pair]:
    """One pair for each of the layers that are one matrix in the file: all of them share what leads down."""
    if bare.replace(".", "_") == "final_layer_adaLN_modulation_1":  # (shift, scale) there, (scale, shift) in diffusers
        return [replace(pair, up=torch.roll(pair.up, pair.up.shape[0] // 2, dims=0))]
    rows, width = pair.up.shape[0], pair.down.shape[1]
    sizes = {1: [rows], 3: [rows // 3] * 3, 4: [width] * 3 + [rows - 3 * width]}[count]
    _check_shapes(name, pair.down, pair.up, file, sum(sizes) == rows and min(sizes) > 0)
    return [replace(pair, up=part.contiguous()) for part in torch.split(pair.up, sizes)]


def _check_shapes(name: str, down: Tensor, up: Tensor, file: str, fit: bool) -> None:
    if not fit:
        raise CheckpointError(
            f"{file} has matrices of the shapes {tuple(down.shape)} and {tuple(up.shape)} for {name!r}, which do not "
            "fit each other. Download it again."
        )


def _unknown(key: str, file: str) -> CheckpointError:
    return CheckpointError(
        f"{file} holds {key!r}, which is no LoRA of a FLUX transformer in the names of diffusers, kohya, ComfyUI, "
        "ai-toolkit, peft or XLabs. Load a LoRA that was made for the model."
    )
