"""Frames and instructions of a data set, encoded once and kept as safetensors.

A cache's folder is named by the digest of all that made it: the data's bytes, the encoders' weights, the tokenizers'
words, size and text length. It holds `rows-00000.safetensors` of ROWS rows each, and `index.json` once it is complete.
A shard is written whole or not at all, so an interrupted encoding goes on where it was. A row of FLUX Kontext (seven
frames of 512 pixels, 512 text tokens, bfloat16) takes 5 MB, most of it text.

Legend: N + 1 frames of a row, C latent channels, h and w latent rows and columns, T text tokens, E and P widths of text
and pooled text.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from kontext_slider.calls import packing
from kontext_slider.errors import InvalidInput
from kontext_slider.files import file_sha256, put_in_place, weights_sha256, write_whole
from kontext_slider.images import read_image, working_image
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.config import SliderConfig

ROWS = 32  # of one shard
INDEX = "index.json"


class EncodedRows:
    """A complete cache. Everything is read from the disk when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder.name
        self._num_rows = json.loads((folder / INDEX).read_text(encoding="utf-8"))["rows"]

    def __len__(self) -> int:
        return self._num_rows

    def latents(self, row: int, frame: int) -> Tensor:
        """One frame, as the pipeline feeds it to the transformer before packing. (C, h, w)"""
        with self._shard(row) as file:
            return file.get_slice(f"{row}.latents")[frame]

    def source(self, row: int) -> Tensor:
        """What is edited, encoded in the same way. (C, h, w)"""
        with self._shard(row) as file:
            return file.get_tensor(f"{row}.source")

    def strengths(self, row: int) -> Tensor:
        """(N + 1,)"""
        with self._shard(row) as file:
            return file.get_tensor(f"{row}.strengths")

    def text(self, row: int) -> tuple[Tensor, Tensor]:
        """Text (T, E) and pooled text (P,)."""
        with self._shard(row) as file:
            return file.get_tensor(f"{row}.text"), file.get_tensor(f"{row}.pooled")

    def instruction(self, row: int) -> str:
        with self._shard(row) as file:
            return file.metadata()[str(row)]

    def shapes(self) -> list[tuple[int, ...]]:
        """(C, h, w) of every row."""
        return [tuple(file.get_slice(f"{row}.latents").get_shape()[1:]) for file, row in self._each()]

    def highest_strengths(self) -> list[Tensor]:
        """The highest strength of every row, as scalars."""
        return [file.get_tensor(f"{row}.strengths").max() for file, row in self._each()]

    def _each(self) -> Iterator[tuple[Any, int]]:
        """The row numbers, each with the file that it is in."""
        for first in range(0, len(self), ROWS):
            with self._shard(first) as file:
                for row in range(first, min(first + ROWS, len(self))):
                    yield file, row

    def _shard(self, row: int) -> Any:
        return safe_open(shard_path(self.folder, row // ROWS), framework="pt")


def encode_rows(
    pipe: KontextSliderPipeline, config: SliderConfig, data: Path, cache: Path, accelerator: Accelerator
) -> EncodedRows:
    """The data set at `data` as a complete cache in `cache`; every process encodes its share of what is missing.

    Raises InvalidInput for a folder that is no data set of ours, and for rows that cannot be trained on.
    """
    files = parquet_files(data)
    keys = [cache_key(pipe, config, files) if accelerator.is_main_process else ""]
    folder = cache / broadcast_object_list(keys)[0]
    if not (folder / INDEX).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with accelerator.main_process_first():
            table = read_table(files, cache / "datasets")
        numbers = range(accelerator.process_index, -(-len(table) // ROWS), accelerator.num_processes)
        for number in tqdm(numbers, desc="encode", unit="shard", disable=not accelerator.is_main_process):
            if not shard_path(folder, number).exists():
                rows = range(number * ROWS, min((number + 1) * ROWS, len(table)))
                write_shard(pipe, config, table, rows, shard_path(folder, number))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_whole(folder / INDEX, json.dumps({"rows": len(table)}).encode())
        accelerator.wait_for_everyone()
    found = EncodedRows(folder)
    for row, strength in enumerate(found.highest_strengths()):
        if strength > config.highest_strength:  # encoded for another run
            raise _unusable(row, _beyond(config.highest_strength))
    return found


def parquet_files(data: Path) -> list[Path]:
    """The data set's files in order. Of several splits (`train-*`, `test-*`), the training one."""
    files = sorted(data.rglob("*.parquet")) if data.is_dir() else []
    training = [file for file in files if "train" in (file.stem.split("-")[0], file.parent.name)]
    if not files:
        raise InvalidInput(f"There are no Parquet files in {str(data)!r}: give the folder that the data stages wrote.")
    return training or files


def read_table(files: list[Path], cache: Path) -> Any:
    """The rows as a `datasets.Dataset`. Raises InvalidInput when a file is no Parquet, columns are missing or there are
    no rows."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    names = [str(file) for file in files]
    try:
        table = load_dataset("parquet", data_files=names, split="train", cache_dir=str(cache))
    except (OSError, ValueError, DatasetsError) as error:
        raise InvalidInput(
            f"The data set at {str(files[0].parent)!r} cannot be read ({error}): give one that the data stages wrote."
        ) from error
    missing = {"frames", "strengths", "instruction"} - set(table.column_names)
    if missing or not len(table):
        what = f"has no column {', '.join(sorted(missing))}" if missing else "has no rows"
        raise InvalidInput(f"The data set at {str(files[0].parent)!r} {what}: give one that the data stages wrote.")
    return table


def cache_key(pipe: KontextSliderPipeline, config: SliderConfig, files: list[Path]) -> str:
    """Digest of all that the encoded rows depend on."""
    digest = hashlib.sha256(json.dumps([config.size, config.max_sequence_length]).encode())
    for file in files:
        digest.update(bytes.fromhex(file_sha256(file)))
    for module in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        digest.update(bytes.fromhex(weights_sha256(module)))
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()[:16]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"rows-{number:05d}.safetensors"


@torch.no_grad()
def write_shard(pipe: KontextSliderPipeline, config: SliderConfig, table: Any, rows: Iterable[int], path: Path) -> None:
    """Encode some rows into a file."""
    tensors: dict[str, Tensor] = {}
    instructions: dict[str, str] = {}
    for number in rows:
        row = _opened(table, number)
        instructions[str(number)] = row["instruction"]
        for name, tensor in encode_row(pipe, config, row, number).items():
            tensors[f"{number}.{name}"] = tensor.contiguous().cpu()
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file(tensors, partial, metadata=instructions)
    put_in_place(partial, path)


def _opened(table: Any, number: int) -> dict:
    try:
        return table[number]
    except OSError as error:
        raise _unusable(number, f"frames that cannot be opened ({error})") from error


def encode_row(pipe: KontextSliderPipeline, config: SliderConfig, row: dict, number: int) -> dict[str, Tensor]:
    """source (C, h, w), latents (N + 1, C, h, w), strengths (N + 1,), text (T, E), pooled (P,).

    The source is the column `source` where there is one (the frame at strength 0 may be its reconstruction)."""
    _check_row(row, number, config.highest_strength)
    source = row.get("source") or row["frames"][row["strengths"].index(0)]
    frames = [working_image(read_image(frame), config.size, packing(pipe)) for frame in (source, *row["frames"])]
    text, pooled, _ = pipe.encode_prompt(
        row["instruction"], device=pipe._execution_device, max_sequence_length=config.max_sequence_length
    )
    latents = torch.cat([encode_frame(pipe, frame) for frame in frames])
    return {
        "source": latents[0],
        "latents": latents[1:],
        "strengths": torch.tensor(row["strengths"], dtype=torch.float32),
        "text": text[0],
        "pooled": pooled[0],
    }


def encode_frame(pipe: KontextSliderPipeline, frame: Image.Image) -> Tensor:
    """A picture as the pipeline feeds it to the transformer before packing, (1, C, h, w); its sides fit the packing."""
    pixels = pipe.image_processor.preprocess(frame, frame.height, frame.width)
    return pipe._encode_vae_image(pixels.to(pipe._execution_device, pipe.vae.dtype), None)  # (1, C, h, w), the mode


def _check_row(row: dict, number: int, highest: float) -> None:
    """Raise InvalidInput for a row without source, with uneven lists or sizes, or without instruction."""
    frames, strengths = row["frames"] or [], row["strengths"] or []
    pictures = [*frames, *([row["source"]] if row.get("source") else [])]
    if not all(isinstance(picture, Image.Image) for picture in pictures):
        problem = "frames that are no pictures"
    elif len(frames) < 2 or len(frames) != len(strengths):
        problem = f"{len(frames)} frames and {len(strengths)} strengths"
    elif not all(isinstance(strength, float | int) and math.isfinite(strength) for strength in strengths):
        problem = "strengths that are no numbers"
    elif not 0 == min(strengths) <= max(strengths) <= highest:
        problem = _beyond(highest)
    elif len({picture.size for picture in pictures}) > 1:
        problem = "frames of several sizes"
    elif not (row["instruction"] or "").strip():
        problem = "an empty instruction"
    else:
        return
    raise _unusable(number, problem)


def _beyond(highest: float) -> str:
    return f"strengths that do not start at 0 and stay below {highest:g}"


def _unusable(number: int, problem: str) -> InvalidInput:
    return InvalidInput(f"Row {number} of the data set has {problem}. Leave it out or repair it.")
