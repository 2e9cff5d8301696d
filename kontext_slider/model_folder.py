"""A model or slider folder, looked over before anything of it is loaded: every part is there, no byte was changed, and
the configurations have the sizes of the tensors. Without this a missing tokenizer or a flipped bit renders other
pictures without a word, and one number in a configuration asks for all memory.

`checksums.json` lies beside `model_index.json`, or at the top of a slider's folder: the SHA-256 of each file by its
path. Folders of others have none; their parts and sizes are checked all the same.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import nn

from .errors import CheckpointError, InvalidInput, KontextSliderError
from .files import file_sha256, read_regular, write_json
from .hub import CHECKSUMS, LORA_FILE, PROJECTOR_FOLDER

INDEX = "model_index.json"
MAX_JSON = 64 * 2**20  # bytes; tokenizers of large models have 10 MB
MAX_WORDS = 2**18  # of a vocabulary
LIBRARIES = ("diffusers", "transformers", "kontext_slider")  # whose classes a model folder may name
_WORDS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")  # one of them holds a tokenizer's words
_COUNTS = re.compile(r"num_.*(layers|blocks)|.*layers_per_block|num_labels")  # of a configuration: of things to make
_FLOATS = re.compile("F64|F32|F16|BF16|F8_.*")  # dtypes of safetensors


@contextmanager
def loading(what: str | Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes CheckpointError with a sentence that begins with `what`; MissingSlider and
    the like stay as they are."""
    try:
        yield
    except InvalidInput as error:
        raise CheckpointError(f"{what} cannot be used. {error}") from error
    except KontextSliderError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit, torch.OutOfMemoryError):
        raise
    except MemoryError as error:
        raise CheckpointError(f"{what} needs more memory than is free. Close other programs and try again.") from error
    except BaseException as error:  # libraries raise anything; a panic of those written in Rust is no Exception
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{what} is damaged or incomplete ({words}). Download or copy it again.") from error


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError, which names the file."""
    with loading(file):
        value = json.loads(read_regular(file, MAX_JSON))
        if not isinstance(value, dict):
            raise ValueError("it holds no names with values")
        return value


def write_checksums(folder: Path, files: Iterable[str]) -> None:
    """Note the checksums of `files`, paths below `folder` with "/", beside those of the folder's other files."""
    noted = read_json_object(folder / CHECKSUMS) if (folder / CHECKSUMS).exists() else {}
    kept = {name: digest for name, digest in noted.items() if (folder / name).is_file()}
    write_json(folder / CHECKSUMS, kept | {name: file_sha256(folder / name) for name in sorted(files)})


def check_files(folder: Path, wanted: Collection[str] | None = None, leave_out: Collection[str] = ()) -> set[str]:
    """Compare the files of a folder with its checksums: those of `wanted` that are listed, or all but those of the
    parts (folders in it) to `leave_out`. Returns the names that are listed, none where the folder has no checksums.

    Raises CheckpointError, which names the file, also for a device, a pipe or a link that leads nowhere: whoever reads
    one may wait for ever."""
    for path in folder.rglob("*") if wanted is None else (folder / name for name in wanted):
        if os.path.lexists(path) and not (path.is_file() or path.is_dir()):
            raise CheckpointError(f"{path} is no file that can be read. Download or copy the folder again.")
    if not (folder / CHECKSUMS).exists():
        return set()
    noted = read_json_object(folder / CHECKSUMS)
    for name in noted.keys() if wanted is None else noted.keys() & set(wanted):
        if PurePosixPath(name).parts[:1] and PurePosixPath(name).parts[0] in leave_out:
            continue
        if not isinstance(noted[name], str) or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise CheckpointError(f"{folder / CHECKSUMS} is damaged. Download or copy the folder again.")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing. Download or copy the folder again.")
        with loading(folder / name):
            same = file_sha256(folder / name) == noted[name]
        if not same:
            raise CheckpointError(
                f"{folder / name} is not the file that was saved: its bytes were changed. Download or copy the folder "
                f"again. If you changed it yourself, delete {CHECKSUMS}."
            )
    return set(noted)


def check_model(folder: Path, given: Collection[str] = ()) -> None:
    """CheckpointError unless a model folder in diffusers' layout can be loaded. given: parts that the caller brings,
    among other names."""
    index = read_json_object(folder / INDEX)
    listed = check_files(folder, leave_out=given)
    for part, entry in index.items():
        if part.startswith("_") or part in given or not isinstance(entry, list) or entry[:1] == [None]:
            continue
        with loading(folder / INDEX):
            library, name = entry
            kind = _class_of(library, name)
        check_part(folder / part, kind)
    lora, entry = folder / PROJECTOR_FOLDER / LORA_FILE, index.get(PROJECTOR_FOLDER)
    has_slider = isinstance(entry, list) and entry[:1] != [None] and PROJECTOR_FOLDER not in given
    if has_slider and not listed and not lora.is_file():
        raise CheckpointError(f"{lora}, the LoRA of the slider, is missing. Download or copy the folder again.")


def check_part(home: Path, kind: type) -> None:
    """CheckpointError unless the folder of one part holds all that a class of its kind reads."""
    if not home.is_dir():
        raise CheckpointError(f"The folder {home} is missing. Download or copy the whole model again.")
    for file in home.glob("*.json"):
        if file.name != "added_tokens.json" and not file.name.startswith("."):
            read_json_object(file)
    if issubclass(kind, nn.Module):
        config, tensors = read_json_object(home / "config.json"), tensors_of(home)
        if tensors and "quantization_config" not in config:
            with loading(home / "config.json"):
                check_codec(check_sizes(lambda: made(kind, config), config, tensors))
    elif "Tokenizer" in kind.__name__:
        if not any((home / name).is_file() for name in _WORDS):
            raise CheckpointError(f"{home / _WORDS[0]}, the tokenizer's words, is missing. Download the model again.")
        if (home / _WORDS[0]).is_file():
            with loading(home / _WORDS[0]):
                Tokenizer.from_file(str(home / _WORDS[0]))
        if (file := home / "tokenizer_config.json").is_file():
            with loading(file):
                check_counts(read_json_object(file))
    elif "Scheduler" in kind.__name__:
        read_json_object(home / "scheduler_config.json")


def check_codec(model: nn.Module) -> None:
    """ValueError, or an error of torch, where an autoencoder on the "meta" device cannot take a picture there and back;
    nothing for other models."""
    if not (hasattr(model, "encode") and hasattr(model, "decode")):
        return
    latents = model.encode(torch.zeros(1, 3, 64, 64, device="meta")).latent_dist.mode()
    pixels = model.decode(latents - model.config.shift_factor).sample
    if pixels.shape != (1, 3, 64, 64) or not 0 < model.config.scaling_factor < math.inf:
        raise ValueError("it does not give back pictures as they were")


def check_counts(config: Mapping[str, Any]) -> None:
    """ValueError where a tokenizer's configuration asks for more extra words than any has (`extra_ids` of T5)."""
    for name, value in _numbers(config):
        if name != "model_max_length" and value > MAX_WORDS:  # a length asks for no memory, and is often "infinite"
            raise ValueError(f"{name} is {value}")


def tensors_of(home: Path) -> dict[str, list[int]]:
    """The shapes of all tensors of real numbers in the safetensors of a folder, by name; nothing else is read. Raises
    CheckpointError, which names the file, for a damaged one."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(home.glob("*.safetensors")):
        if file.name == LORA_FILE:
            continue
        with loading(file), safe_open(file, framework="pt") as opened:
            parts = {name: opened.get_slice(name) for name in list(opened.keys())}
            shapes |= {name: part.get_shape() for name, part in parts.items() if _FLOATS.fullmatch(part.get_dtype())}
    if not shapes and not [*home.glob("*.bin"), *home.glob("*.pth")]:
        raise CheckpointError(f"There are no weights in {home}. Download or copy the whole model again.")
    return shapes


def check_sizes(
    make: Callable[[], nn.Module], config: Mapping[str, Any], tensors: Mapping[str, list[int]]
) -> nn.Module:
    """What `make` builds of a configuration, without memory (on torch's "meta" device).

    tensors: the shapes of its file's, by name. ValueError, before it is built, for more parts than the file has
    tensors, and unless the model's tensors are those of the file."""
    for name, value in _numbers(config):
        if _COUNTS.fullmatch(name) and value > len(tensors):
            raise ValueError(f"{name} is {value}, and its file has {len(tensors)} tensors")
    longest = max((len(value) for value in config.values() if isinstance(value, list)), default=0)
    if longest > max(16, len(tensors)):
        raise ValueError(f"it has a list of {longest} values")
    with torch.device("meta"):
        model = make()
    wanted = {name: list(value.shape) for name, value in model.named_parameters()}  # tied ones once
    ends = {_end(name): shape for name, shape in tensors.items()}
    for name, shape in wanted.items():
        found = tensors.get(name, ends.get(_end(name)))  # releases before and after name the outer modules differently
        if found is None:
            raise ValueError(f"the tensor {name!r} is missing in its file")
        if found != shape:
            raise ValueError(f"the tensor {name!r} has the shape {found} in its file, not {shape}")
    return model


def made(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    """A model of a class of diffusers, transformers or ours with its configuration."""
    if getattr(kind, "config_class", None) is not None:
        return kind(kind.config_class.from_dict(dict(config)))
    return kind.from_config(dict(config))


def _end(name: str) -> str:
    """A tensor's name without its outermost module's."""
    return name.removeprefix("text_model.")


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int):
                yield name, number


def _class_of(library: Any, name: Any) -> type:
    """A class of the three packages that models are made of; nothing else is imported."""
    if not isinstance(library, str) or library.split(".")[0] not in LIBRARIES:
        raise ValueError(f"it names a part of {library!r}, which no model here is made of")
    found = getattr(importlib.import_module(library), str(name))
    if not isinstance(found, type):
        raise ValueError(f"{library}.{name} is no class")
    return found
