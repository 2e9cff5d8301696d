"""Slider weights on disk and on the hub: our layout and the authors' released one.

Ours:      slider_projector/{config.json, diffusion_pytorch_model.safetensors}, pytorch_lora_weights.safetensors (in a
           whole pipeline's folder it lies inside slider_projector/), README.md.
Authors':  slider_projector.pth (a plain state dict, read with `weights_only=True` and no other way),
           pytorch_lora_weights.safetensors.

Legend: P width of the pooled text, E of the encoded strength, D of the transformer.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from .base import base_of
from .errors import CheckpointError
from .files import writing
from .hub import AUTHORS_FILE, LORA_FILE, PROJECTOR_FILE, PROJECTOR_FOLDER, download_slider
from .lora import LoraWeights
from .lora_file import read_lora, write_lora
from .model_folder import check_files, check_sizes, loading, read_json_object, tensors_of, write_checksums
from .projector import StrengthProjector

CARD_FILE = "README.md"
CARD_TITLE = "# Edit strength slider"
# of models, schedulers, tokenizers and image processors
PART_CONFIGS = ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")

SLIDER_FILES = (
    *(f"{PROJECTOR_FOLDER}/{name}" for name in ("config.json", PROJECTOR_FILE, LORA_FILE)),
    *("config.json", PROJECTOR_FILE, LORA_FILE, AUTHORS_FILE),
)


@dataclass(frozen=True)
class SliderWeights:
    """A slider off its pipeline."""

    projector: StrengthProjector
    lora: LoraWeights


def read_slider(source: str | os.PathLike, subfolder: str | None = None, **hub_options: Any) -> SliderWeights:
    """Read a slider of either layout from a folder or a hub repository (see `load_slider`)."""
    folder = Path(source) if os.path.isdir(source) else download_slider(source, subfolder, **hub_options)
    folder = folder / (subfolder or "")
    check_files(folder, SLIDER_FILES)
    for home in (folder / PROJECTOR_FOLDER, folder):
        if (home / PROJECTOR_FILE).is_file():
            lora_home = home if (home / LORA_FILE).is_file() else folder
            with loading(f"The slider in {str(folder)!r}"):
                return SliderWeights(read_projector(home), read_lora(lora_home))
    if (folder / AUTHORS_FILE).is_file():
        with loading(f"The slider in {str(folder)!r}"):
            return SliderWeights(_read_authors_projector(folder / AUTHORS_FILE), read_lora(folder))
    raise CheckpointError(
        f"There is no slider in {str(source)!r}: neither {PROJECTOR_FOLDER}/{PROJECTOR_FILE} nor {AUTHORS_FILE}. "
        "Give the folder or hub id that holds one of them beside its LoRA file."
    )


def check_fit(projector: StrengthProjector, lora: LoraWeights | None, transformer: nn.Module) -> None:
    """Raise CheckpointError when the projector's widths are not this transformer's, or the LoRA changes layers that it
    does not have or that have other widths there."""
    check_projector_fit(projector, transformer)
    layers = dict(transformer.named_modules())
    for name, (down, up) in ({} if lora is None else lora.pairs()).items():
        layer = layers.get(name)
        layer = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
        if not isinstance(layer, nn.Linear):
            raise CheckpointError(f"{LORA_FILE} changes {name!r}, which this transformer does not have.")
        if (down.shape[1], up.shape[0]) != (layer.in_features, layer.out_features):
            raise CheckpointError(
                f"{LORA_FILE} is made for a layer {name!r} of {down.shape[1]} -> {up.shape[0]} features, and this "
                f"transformer's has {layer.in_features} -> {layer.out_features}. Load it onto the model it belongs to."
            )


def check_projector_fit(projector: StrengthProjector, transformer: nn.Module) -> None:
    """Raise CheckpointError when the projector was made for a transformer of other widths."""
    made_for = (projector.config.modulation_dim, projector.config.pooled_dim)
    needed = (transformer.inner_dim, transformer.config.pooled_projection_dim)
    if made_for != needed:
        raise CheckpointError(
            f"The slider's offsets are {made_for[0]} wide and its pooled text is {made_for[1]}; this transformer needs "
            f"{needed[0]} and {needed[1]}. Load it onto the model it belongs to."
        )


def write_slider(folder: Path, weights: SliderWeights, card: str | None) -> None:
    """Our layout, as an adapter folder. `card` is the text of README.md; None: as it is. Raises InvalidInput, DiskError
    where the disk is full."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        weights.projector.save_pretrained(folder / PROJECTOR_FOLDER)
        write_lora(folder, weights.lora)
        if card is not None:
            (folder / CARD_FILE).write_text(card, encoding="utf-8")
        forget_local_paths(folder, [PROJECTOR_FOLDER])
        write_checksums(folder, [name for name in SLIDER_FILES if (folder / name).is_file()])


def has_foreign_card(folder: Path) -> bool:
    """Whether a README.md lies there that `slider_card` has not written."""
    file = folder / CARD_FILE
    return file.is_file() and CARD_TITLE not in file.read_text(encoding="utf-8", errors="replace")


def forget_local_paths(folder: Path, parts: Iterable[str] = ()) -> None:
    """Take out of the configurations of a model and its `parts`, just written, the local path that they were loaded
    from, which diffusers notes."""
    for file in [folder / "model_index.json", *(folder / part / name for part in parts for name in PART_CONFIGS)]:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        names = [key for key in ("_name_or_path", "name_or_path") if os.path.sep in str(config.get(key, ""))]
        if local := [key for key in names if os.path.isabs(config[key]) or os.path.exists(config[key])]:
            kept = {key: value for key, value in config.items() if key not in local}
            file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def slider_card(weights: SliderWeights, base_model: str | None) -> str:
    """A model card. `base_model` is a hub id, or None."""
    config = weights.projector.config
    shape = "piecewise linear" if config.degree is None else f"a polynomial of degree {config.degree}"
    ranks = sorted({down.shape[0] for down, _ in weights.lora.pairs().values()})
    base = f"base_model: {base_model}\n" if base_model else ""
    return f"""---
library_name: diffusers
{base}tags: [lora, image-to-image, kontext-slider]
---

{CARD_TITLE}

A projector from (strength, pooled instruction) to modulation offsets, and the LoRA that goes with it, for
`kontext-slider`. Strength 0 leaves the picture as it is, 1 is the full edit.

| | |
|---|---|
| base model | {base_model or "see where these files lie"} |
| strength encoding | {config.strength_encoding} ({config.strength_dim} values) |
| projector | {config.num_layers} layers, {config.hidden_dim} wide, pooled text {config.pooled_dim} wide |
| offsets | {config.modulation_dim} wide, to {config.place}, {shape} in the strength |
| LoRA rank | {", ".join(map(str, ranks))} |

Load it with `pipe.load_slider("this folder or its hub id")`, then `pipe(image, "make it snow", strength=0.5)`.
"""


def read_projector(home: Path, kinds: Mapping[str, type] | None = None) -> Any:
    """The StrengthProjector of a folder, or one of the class that `kinds` has for its configuration's `_class_name`."""
    config, sizes = read_json_object(home / "config.json"), tensors_of(home)
    kind = (kinds or {}).get(str(config.get("_class_name")), StrengthProjector)
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        projector = check_sizes(lambda: kind(**settings), settings, sizes)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"The slider's projector is not readable: {error}") from error
    return _filled(projector, load_file(home / PROJECTOR_FILE))


def _read_authors_projector(file: Path) -> StrengthProjector:
    try:
        if not zipfile.is_zipfile(file):  # the older form allocates what it says before it reads
            raise ValueError("it is no archive as torch.save writes it")
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged bytes make the unpickler raise whatever they spell
        raise CheckpointError(
            f"{AUTHORS_FILE} is damaged or holds more than tensors, which is not safe to open. Download it again."
        ) from error
    try:
        settings = _sizes_of(tensors)
        shapes = {name: list(value.shape) for name, value in tensors.items()}
        projector = check_sizes(lambda: StrengthProjector(**settings), settings, shapes)
        if sum(value.numel() * value.element_size() for value in tensors.values()) > file.stat().st_size:
            raise ValueError("its tensors are larger than the file")
        return _filled(projector, {name: value.clone() for name, value in tensors.items()})
    except CheckpointError:
        raise
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{AUTHORS_FILE} is not a slider projector: {error}") from error


def _sizes_of(tensors: Any) -> dict[str, Any]:
    """The configuration that the authors' file does not carry, from the shapes of its tensors."""
    layers = [] if not isinstance(tensors, dict) else [k for k in tensors if k.startswith("projector.")]
    weights = sorted((k for k in layers if k.endswith(".weight")), key=lambda k: int(k.split(".")[1]))
    if len(weights) < 2 or "pe_extender.weight" not in tensors:
        raise CheckpointError(f"{AUTHORS_FILE} is not a slider projector: pe_extender.* and projector.* are missing.")
    pooled_dim, strength_dim = tensors["pe_extender.weight"].shape  # (P, E)
    return {
        "pooled_dim": pooled_dim,
        "hidden_dim": tensors[weights[0]].shape[0],
        "modulation_dim": tensors[weights[-1]].shape[0] // 2,  # (2 D, hidden)
        "num_layers": len(weights),
        "strength_dim": strength_dim,
        "strength_encoding": "release" if strength_dim == 2 else "sinusoidal",
    }


def _filled(projector: nn.Module, tensors: dict[str, Tensor]) -> Any:
    """A projector without memory, with its tensors."""
    if odd := [name for name, value in tensors.items() if not value.is_floating_point() or not value.isfinite().all()]:
        raise CheckpointError(
            f"The slider's projector has values in {odd[0]!r} that are no numbers. Download it again."
        )
    try:
        projector.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=True, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"The slider's projector does not have the released layout: {error}") from error
    return projector.eval()


def check_parts(pipe: Any) -> None:
    """Raise CheckpointError where the parts of a model do not fit each other: texts that are padded beyond the text
    encoder's places, words that it does not have, widths that the transformer does not take, a schedule without
    numbers."""
    with loading("scheduler/scheduler_config.json"):
        if not base_of(pipe).schedule(2, 64).sigmas.isfinite().all():
            raise ValueError("its noise levels are no numbers")
    tokenizer, config = pipe.tokenizer, getattr(pipe.transformer, "config", None)
    if tokenizer is not None and pipe.text_encoder is not None:
        places = pipe.text_encoder.config.max_position_embeddings
        if not 1 <= tokenizer.model_max_length <= places:
            raise CheckpointError(
                f"tokenizer/tokenizer_config.json asks for texts of {tokenizer.model_max_length} tokens, and the text "
                f"encoder has {places} places. Download the model again."
            )
    if config is not None:
        _check_axes(config["axes_dims_rope"], config["attention_head_dim"])
    for suffix, width in (("", "pooled_projection_dim"), ("_2", "joint_attention_dim")):
        words, encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
        if encoder is None:
            continue
        if words is not None and len(words) > encoder.config.vocab_size:
            raise CheckpointError(
                f"tokenizer{suffix} has {len(words)} words, and text_encoder{suffix} {encoder.config.vocab_size}. "
                "Download the model again."
            )
        if config is not None and encoder.config.hidden_size != config[width]:
            raise CheckpointError(
                f"text_encoder{suffix} is {encoder.config.hidden_size} wide, and the transformer takes "
                f"{config[width]}. Download the model again."
            )


def _check_axes(axes: Any, head: Any) -> None:
    """The widths of a token's number, row and column in the rotary embedding of a head."""
    are_axes = isinstance(axes, list | tuple) and all(isinstance(axis, int) and axis > 0 for axis in axes)
    if not are_axes or len(axes) != 3 or sum(axes) != head or any(axis % 2 for axis in axes):
        raise CheckpointError(f"transformer/config.json has the axes {axes} for heads of {head}. Download it again.")
