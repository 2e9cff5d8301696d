"""Tensors in a safetensors file that is whole or not there, and whose damage is told when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kontext_slider.errors import CheckpointError
from kontext_slider.files import open_whole

DIGEST = "sha256"  # among the metadata: of all tensors and of the other metadata


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors on the CPU, and texts by name, with a digest of both."""
    with open_whole(path) as file:
        save_file(dict(tensors), file.name, metadata={**metadata, DIGEST: _digest(tensors, metadata)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of `write_tensors`. CheckpointError where they are not what was written."""
    try:
        with safe_open(_regular(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except Exception as error:  # damaged bytes break the reader in any way
        raise CheckpointError(f"{path} cannot be read ({error}). Delete it: it is made again.") from error
    if metadata.pop(DIGEST, None) != _digest(tensors, metadata):
        raise CheckpointError(f"{path} is damaged: it does not hold what was written. Delete it: it is made again.")
    return tensors, metadata


def read_shape(path: Path, name: str) -> tuple[int, ...]:
    """The shape of a tensor, from the file's header alone. CheckpointError where it cannot be read."""
    try:
        with safe_open(_regular(path), framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())
    except Exception as error:  # damaged bytes break the reader in any way
        raise CheckpointError(f"{path} cannot be read ({error}). Delete it: it is made again.") from error


def _regular(path: Path) -> Path:
    """A file, and no pipe, which would be waited for."""
    if not path.is_file():
        raise ValueError("it is no file")
    return path


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
