"""A slider's LoRA on disk: read in the names of any program, written in diffusers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers.loaders import FluxLoraLoaderMixin
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from . import lora_names
from .errors import CheckpointError
from .hub import ADAPTER_CONFIG, LORA_FILE
from .lora import PREFIX, LoraWeights


def read_lora(folder: Path) -> LoraWeights:
    """The LoRA file of a folder, in the names of any program that `lora_names` lists.

    Alphas that the tensors do not tell are those of the file's header or of peft's `adapter_config.json` beside it.

    Raises CheckpointError when the file is missing or damaged, or is no plain LoRA of a transformer.
    """
    tensors, header = _open_lora(folder / LORA_FILE)
    config = header if header is not None else _read_config(folder / ADAPTER_CONFIG)
    pairs = lora_names.translate(tensors, config, LORA_FILE)
    alphas = {PREFIX + name: pair.alpha for name, pair in pairs.items() if pair.alpha is not None}
    matrices = {f"{PREFIX}{name}.lora_A.weight": pair.down for name, pair in pairs.items()}
    matrices |= {f"{PREFIX}{name}.lora_B.weight": pair.up for name, pair in pairs.items()}
    metadata = None
    if header is not None and matrices.keys() == tensors.keys():
        metadata = {PREFIX + name: value for name, value in header.items()}
    return LoraWeights(matrices, alphas, metadata)


def write_lora(folder: Path, lora: LoraWeights) -> None:
    """`pytorch_lora_weights.safetensors`, as diffusers writes and reads it, its configuration inside."""
    cut = {name.removeprefix(PREFIX): value for name, value in (lora.metadata or {}).items()}
    FluxLoraLoaderMixin.save_lora_weights(
        str(folder),
        transformer_lora_layers={name.removeprefix(PREFIX): value for name, value in lora.tensors.items()},
        transformer_lora_adapter_metadata=cut or None,
    )


def _read_config(file: Path) -> dict[str, Any] | None:
    """peft's configuration of an adapter, or None where there is none."""
    if not file.is_file():
        return None
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file.name} is not readable as the configuration of a LoRA: {error}") from error


def _open_lora(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """What a LoRA file holds, and its configuration (a LoraConfig as a dict) where diffusers has put one inside."""
    if not file.is_file():
        raise CheckpointError(f"The slider's {file.name} is missing. Download the whole slider again.")
    try:
        tensors = load_file(file)
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(LORA_ADAPTER_METADATA_KEY)
        config = None if text is None else {k.removeprefix(PREFIX): v for k, v in json.loads(text).items()}
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{file.name} is not readable as LoRA weights: {error}") from error
    if not tensors:
        raise CheckpointError(f"{file.name} holds nothing. Download the whole slider again.")
    return tensors, config
