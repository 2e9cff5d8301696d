"""Weights known by their values, not by where they lie: digests of a module and of a model's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


def weights_digest(module: nn.Module) -> bytes:
    """Digest of names, shapes, precision and values of a module's tensors, and of its configuration."""
    digest = hashlib.sha256(json.dumps(_facts(module), sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


def folder_digest(folder: Path) -> str:
    """Digest of the safetensors anywhere in a folder, by their names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _facts(module: nn.Module) -> dict[str, Any]:
    """The configuration, but for what depends on the way the module was made."""
    config = module.config
    facts = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    local = ("_name_or_path", "name_or_path", "transformers_version", "_diffusers_version", "dtype", "torch_dtype")
    return {name: value for name, value in facts.items() if name not in (*local, "_use_default_values")}
