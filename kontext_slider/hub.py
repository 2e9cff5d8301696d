"""Sliders and whole pipelines on the Hugging Face hub: which files they are, and a sentence for every trouble."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from .errors import CheckpointError

PROJECTOR_FOLDER = "slider_projector"
PROJECTOR_FILE = "diffusion_pytorch_model.safetensors"
AUTHORS_FILE = "slider_projector.pth"
LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER_CONFIG = "adapter_config.json"  # beside a LoRA that peft wrote
CHECKSUMS = "checksums.json"  # see `model_folder.py`
NO_HUB = "There is no such folder, and the hub cannot be reached. Check the path or the network connection."
UNREACHABLE = (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, httpx.TransportError, OSError)


def download_slider(source: str | os.PathLike, subfolder: str | None, **options: Any) -> Path:
    """The slider's files of a hub repository, from the cache where they are."""
    name, prefix = os.fspath(source), f"{subfolder}/" if subfolder else ""
    own = (f"{PROJECTOR_FOLDER}/*", "config.json", PROJECTOR_FILE, CHECKSUMS)
    files = (*own, AUTHORS_FILE, LORA_FILE, ADAPTER_CONFIG)
    if not isinstance(source, str) or name.startswith((".", "/", "~")) or os.path.exists(name):
        raise CheckpointError(f"{name!r} is not a folder. Give the folder or hub id (owner/name) of a slider.")
    try:
        return Path(snapshot_download(name, allow_patterns=[prefix + file for file in files], **options))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder here nor a hub id (owner/name).") from error
    except UNREACHABLE as error:
        raise CheckpointError(f"The slider {name!r} cannot be loaded. {advice_for(name, error) or NO_HUB}") from error


def advice_for(name: str, error: BaseException) -> str | None:
    """What to do where the hub refuses a repository or cannot be reached, by the error's causes; None for others."""
    kinds: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        kinds |= {kind.__name__ for kind in type(cause).__mro__}
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in kinds:
        page = f"https://huggingface.co/{name}"
        return f"Access to it is granted on request: accept its licence at {page}, then run 'hf auth login'."
    if {"RepositoryNotFoundError", "RevisionNotFoundError"} & kinds:
        return "There is no such folder, and no such repository on the hub that you may see. Check the spelling."
    return NO_HUB if any("connect" in kind.lower() or "offline" in kind.lower() for kind in kinds) else None


def find_projector(source: str | os.PathLike, **options: Any) -> Path:
    """The projector's folder of a whole pipeline, on the hub or here."""
    folder = Path(source)
    return (folder if folder.is_dir() else download_slider(source, None, **options)) / PROJECTOR_FOLDER


def download_pipeline(name: str, **options: Any) -> Path | None:
    """The snapshot of a hub pipeline with a component of this package, as `save_pretrained` wrote it, or None for any
    other repository, and for one that is absent, gated or unreachable: diffusers says so next."""
    known = ("revision", "token", "cache_dir", "local_files_only", "force_download")
    hub = {key: options[key] for key in known if options.get(key) is not None}
    try:
        index = json.loads(Path(hf_hub_download(name, "model_index.json", **hub)).read_text(encoding="utf-8"))
    except (HFValidationError, *UNREACHABLE):
        return None
    parts = {part: entry[0] for part, entry in index.items() if isinstance(entry, list) and part[0] != "_"}
    if not any(str(library).split(".")[0] == __package__ for library in parts.values()):
        return None
    folders = [f"{part}/*" for part, library in parts.items() if library is not None]
    return Path(snapshot_download(name, allow_patterns=["model_index.json", CHECKSUMS, *folders], **hub))
