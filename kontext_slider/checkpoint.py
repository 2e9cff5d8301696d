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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import CheckpointError
from .hub import AUTHORS_FILE, LORA_FILE, PROJECTOR_FILE, PROJECTOR_FOLDER, download_slider
from .lora import LoraWeights
from .lora_file import read_lora, write_lora
from .projector import StrengthProjector

CARD_FILE = "README.md"
CARD_TITLE = "# Edit strength slider"
# of models, schedulers, tokenizers and image processors
PART_CONFIGS = ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class SliderWeights:
    """A slider off its pipeline."""

    projector: StrengthProjector
    lora: LoraWeights


def read_slider(source: str | os.PathLike, subfolder: str | None = None, **hub_options: Any) -> SliderWeights:
    """Read a slider of either layout from a folder or a hub repository (see `load_slider`)."""
    folder = Path(source) if os.path.isdir(source) else download_slider(source, subfolder, **hub_options)
    folder = folder / (subfolder or "")
    for home in (folder / PROJECTOR_FOLDER, folder):
        if (home / PROJECTOR_FILE).is_file():
            lora_home = home if (home / LORA_FILE).is_file() else folder
            return SliderWeights(read_projector(home), read_lora(lora_home))
    if (folder / AUTHORS_FILE).is_file():
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
    """Our layout, as an adapter folder. `card` is the text of README.md; None: as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.projector.save_pretrained(folder / PROJECTOR_FOLDER)
    write_lora(folder, weights.lora)
    if card is not None:
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    forget_local_paths(folder, [PROJECTOR_FOLDER])


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
    try:
        config = json.loads((home / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(home / PROJECTOR_FILE)
        kind = (kinds or {}).get(config.get("_class_name"), StrengthProjector)
        projector = kind(**{name: value for name, value in config.items() if not name.startswith("_")})
    except (OSError, SafetensorError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The slider's projector is not readable: {error}") from error
    return _filled(projector, tensors)


def _read_authors_projector(file: Path) -> StrengthProjector:
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise whatever they spell
        raise CheckpointError(
            f"{AUTHORS_FILE} is damaged or holds more than tensors, which is not safe to open. Download it again."
        ) from error
    try:
        return _filled(StrengthProjector(**_sizes_of(tensors)), tensors)
    except CheckpointError:
        raise
    except (AttributeError, TypeError, ValueError, IndexError) as error:
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
    try:
        projector.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"The slider's projector does not have the released layout: {error}") from error
    return projector.eval()
