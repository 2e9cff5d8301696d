"""The models by name, and how app and command line load any model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .edit import DTYPES, EditDefaults
from .errors import CheckpointError, InvalidInput, KontextSliderError, MissingSlider
from .files import shipped
from .hub import advice_for

if TYPE_CHECKING:
    import torch

    from .pipeline import KontextSliderPipeline


@dataclass(frozen=True)
class Preset:
    """A model by name. Its settings for edits are in its own folder (`edit.EditDefaults`)."""

    name: str
    model: str  # a folder or hub id, as `slider`
    slider: str | None  # None: the model carries one
    hardware: str
    licence: str


PRESETS = {
    "pocket": Preset("pocket", str(shipped("weights/pocket")), None, "any computer", "MIT"),
    "kontext-dev": Preset(
        "kontext-dev",
        "black-forest-labs/FLUX.1-Kontext-dev",
        slider="RishubhPar/KontinuousKontextWeights",
        hardware="a GPU of 40 GB in bfloat16; 24 GB with low VRAM, 16 GB with int8 as well",
        licence="non-commercial; access to the base model is granted on request",
    ),
}


def load_pipeline(
    model: str = "pocket",
    slider: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    low_vram: bool = False,
    quantize: str | None = None,
) -> KontextSliderPipeline:
    """Load a pipeline that is ready to render: its slider weights are in, its modules on the device.

    Args:
        model: the name of a preset, a folder in diffusers' layout, or a hub id such as "owner/name".
        slider: slider weights, a folder or a hub id. None: those of the preset, or those the model folder carries.
        device: such as "cuda", "cuda:1", "mps" or "cpu". None: the first of cuda, mps, cpu that is there.
        dtype: "float32", "bfloat16" or "float16". None: bfloat16 on cuda, float32 elsewhere.
        low_vram: keep on the device what a new strength needs and no more (`memory.py`): edits open slower.
        quantize: "int8" to keep the matrices of the transformer's blocks as int8 (`memory.py`).

    Raises InvalidInput (unknown model, device, dtype or quantization), CheckpointError (weights that cannot be fetched
    or read) or MissingSlider, each with a sentence that says what to do.
    """
    import torch

    from .memory import cast, place_with_low_vram, quantization_config

    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    quantization = {} if quantize is None else {"quantization_config": quantization_config(quantize)}
    pipe = load_base(model, chosen_dtype, **quantization)
    preset = find_preset(model)
    slider = slider or (preset.slider if preset else None)
    if slider is not None:
        pipe.load_slider(slider)
    if not pipe.has_slider:
        raise MissingSlider(
            f"{str(model)!r} has no slider weights. Name some with slider=... (on the command line: --slider)."
        )
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            cast(part, chosen_dtype)
    return place_with_low_vram(pipe, chosen_device) if low_vram else pipe.to(chosen_device)


def load_base(model: str, dtype: torch.dtype, **settings: Any) -> KontextSliderPipeline:
    """The model alone, on the CPU, with a slider where its folder carries one. `settings`: of `from_pretrained`.

    Raises InvalidInput (unknown model) or CheckpointError (weights that cannot be fetched or read).
    """
    from .pipeline import KontextSliderPipeline

    preset = find_preset(model)
    source = _existing_source(preset.model if preset else str(model))
    try:
        return KontextSliderPipeline.from_pretrained(source, dtype=dtype, **settings)
    except KontextSliderError:
        raise
    except Exception as error:  # libraries raise anything for a damaged file
        advice = advice_for(source, error) or f"{error} Check that the files are complete."
        raise CheckpointError(f"{source!r} cannot be loaded. {advice}") from error


@dataclass(frozen=True)
class BaseFacts:
    """What training data must know of a base model, of which its weights say nothing."""

    size: int  # side in pixels of a square of a working picture's area
    multiple: int  # of a working picture's sides, pixels
    known_instructions: Mapping[str, Sequence[str]]  # edit -> phrasings; empty for a model that takes any instruction


def read_base_facts(model: str) -> BaseFacts:
    """The facts of a model, from its configurations alone: no weights are read. Raises as `load_base`."""
    from diffusers import AutoencoderKL

    from .pipeline import KontextSliderPipeline

    preset = find_preset(model)
    source = _existing_source(preset.model if preset else str(model))
    try:
        index = KontextSliderPipeline.load_config(source)
        codec = AutoencoderKL.load_config(source, subfolder="vae")
        defaults = EditDefaults.from_config(index.get("edit_defaults"))
        multiple = 2 * 2 ** (len(codec["block_out_channels"]) - 1)  # latents are packed two by two
    except KontextSliderError:
        raise
    except Exception as error:  # libraries raise anything for a damaged file
        advice = advice_for(source, error) or f"{error} Check that the files are complete."
        raise CheckpointError(f"{source!r} cannot be read. {advice}") from error
    return BaseFacts(defaults.size, multiple, index.get("known_instructions") or {})


def find_preset(model: str) -> Preset | None:
    """The preset of that name, or the one whose model it is."""
    return PRESETS.get(model) or next((preset for preset in PRESETS.values() if preset.model == model), None)


def choose_device(device: str | torch.device | None) -> torch.device:
    """A device that is there; InvalidInput for one that is not."""
    import torch

    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    available = [*(name for name, backend in backends.items() if backend.is_available()), "cpu"]
    if device is None:
        return torch.device(available[0])
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInput(f"Unknown device {device!r}. Use one of: {', '.join(available)}.") from error
    too_many = chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    if chosen.type not in available or too_many:
        raise InvalidInput(f"The device {str(chosen)!r} is not there. Use one of: {', '.join(available)}.")
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The precision of the weights; InvalidInput for one that models are not run in."""
    import torch

    if dtype is None:
        dtype = "bfloat16" if device.type == "cuda" else "float32"
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InvalidInput(f"Unknown dtype {dtype!r}. Use one of: {', '.join(DTYPES)}.")
    return getattr(torch, name)


def _existing_source(source: str) -> str:
    """A model folder that is one, or something that can be a hub id."""
    folder = Path(os.path.expanduser(source))
    if source and folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise CheckpointError(
                f"The folder {source!r} holds no model: model_index.json is missing. Choose the folder that has it."
            )
        return str(folder)
    if source == PRESETS["pocket"].model:
        raise CheckpointError(
            f"The pocket model is not at {source!r}. It comes with the package: install kontext-slider again, or give "
            "the path of a model folder."
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not source.startswith("."):
        return source
    near = get_close_matches(source, PRESETS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidInput(
        f"There is no model {source!r}.{hint} Use one of {', '.join(PRESETS)}, the path of a model folder, "
        "or a hub id such as 'owner/name'."
    )
