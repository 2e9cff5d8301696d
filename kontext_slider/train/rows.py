"""A data set's rows: frames and instructions encoded once and kept as safetensors, and the batches drawn of them.

A cache's folder is named by the digest of all that made it: the data's bytes, the encoders' weights, the tokenizers'
words, size, text length and highest strength. It holds a file for each row, and `index.json` once it is complete. A
file is written whole or not at all, so an interrupted encoding goes on where it was. A row of FLUX Kontext (seven
frames of 512 pixels, 512 text tokens, bfloat16) takes 5 MB, most of it text.

A row's place in the run fixes its frame, noise level, noise and drop, whichever process takes it. So a resumed run is
the same run, and several processes together do what one would.

Legend: N + 1 frames of a row, C latent channels, h and w latent rows and columns, T text tokens, E and P widths of text
and pooled text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kontext_slider.base import base_of
from kontext_slider.calls import packing
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.files import json_sha256, read_regular, weights_sha256, write_json
from kontext_slider.images import read_image, working_image
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.run_folder import MAX_NOTE
from kontext_slider.train.config import SliderConfig
from kontext_slider.train.dataset import DataSet
from kontext_slider.train.flow import SliderBatch, sample_sigmas
from kontext_slider.train.tensor_file import read_shape, read_tensors, write_tensors

INDEX = "index.json"
ENCODED_BY = ("size", "max_sequence_length", "highest_strength")  # of a run's settings


class EncodedRows:
    """A complete cache. `shapes`: (C, h, w) of every row. Tensors are read from the disk when they are needed.

    Raises CheckpointError where a file is damaged."""

    def __init__(self, folder: Path, shapes: list[tuple[int, ...]]) -> None:
        self.folder, self.key, self.shapes = folder, folder.name, shapes

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """As of `encode_row`."""
        return self._read(row)[0]

    def instruction(self, row: int) -> str:
        return self._read(row)[1]["instruction"]

    def _read(self, row: int) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = row_path(self.folder, row)
        tensors, texts = read_tensors(path)
        if texts.get("row") != place_of(path):
            raise CheckpointError(f"{path} holds another row. Delete it: it is made again.")
        return tensors, texts


def encode_rows(
    pipe: KontextSliderPipeline, config: SliderConfig, data: DataSet, cache: Path, accelerator: Accelerator
) -> EncodedRows:
    """A data set as a complete cache in `cache`; every process encodes its share of what is missing.

    Processes wait for each other twice, for digests and at the end, and no longer than their shares differ.

    Raises InvalidInput for rows that cannot be trained on, and CheckpointError for a data set whose files are not those
    that were packed.
    """
    part, num_parts, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    folder = cache / cache_key(pipe, config, gathered(data.digests(part, num_parts)))
    if read_index(folder) is None:
        folder.mkdir(parents=True, exist_ok=True)
        first, last = (len(data) * k // num_parts for k in (part, part + 1))
        for number in tqdm(range(first, last), desc="encode", unit="row", disable=not main):
            if not row_path(folder, number).exists():
                write_row(pipe, config, data, number, row_path(folder, number))
        accelerator.wait_for_everyone()
        if main:
            shapes = [list(read_shape(row_path(folder, number), "source")) for number in range(len(data))]
            write_json(folder / INDEX, {"shapes": shapes, "sha256": json_sha256(shapes)})
        accelerator.wait_for_everyone()
    return EncodedRows(folder, read_index(folder) or [])


def gathered(digests: list[tuple[int, str]]) -> list[str]:
    """The digests that all processes have taken, in the order of their numbers, the same in each process."""
    return [digest for _, digest in sorted(gather_object(digests))]


def read_index(folder: Path) -> list[tuple[int, ...]] | None:
    """The rows' shapes; None where the cache is not complete: no index, a damaged one, or a row that is missing."""
    try:
        index = json.loads(read_regular(folder / INDEX, MAX_NOTE))
        if index["sha256"] != json_sha256(index["shapes"]):
            return None
        shapes = [tuple(shape) for shape in index["shapes"]]
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return shapes if all(row_path(folder, number).exists() for number in range(len(shapes))) else None


def cache_key(pipe: KontextSliderPipeline, config: SliderConfig, digests: Sequence[str]) -> str:
    """Digest of all that the encoded rows depend on. digests: of the data set's files, hexadecimal."""
    digest = hashlib.sha256(json.dumps([getattr(config, name) for name in ENCODED_BY]).encode())
    for file in digests:
        digest.update(bytes.fromhex(file))
    for module in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        digest.update(bytes.fromhex(weights_sha256(module)))
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()[:16]


def row_path(folder: Path, number: int) -> Path:
    return folder / f"{number:07d}.safetensors"


def place_of(path: Path) -> str:
    """What a row's file says of itself, so that it is not read in another's place."""
    return f"{path.parent.name}/{path.name}"


@torch.no_grad()
def write_row(pipe: KontextSliderPipeline, config: SliderConfig, data: DataSet, number: int, path: Path) -> None:
    """Encode a row into a file. InvalidInput for one that cannot be trained on."""
    try:
        row = data[number]
    except OSError as error:
        raise _unusable(number, f"frames that cannot be opened ({error})") from error
    problem = find_problem(row, config.highest_strength)
    if problem:
        raise _unusable(number, problem)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in encode_row(pipe, config, row).items()}
    write_tensors(path, tensors, {"instruction": row["instruction"], "row": place_of(path)})


def encode_row(pipe: KontextSliderPipeline, config: SliderConfig, row: dict) -> dict[str, Tensor]:
    """source (C, h, w), latents (N + 1, C, h, w), strengths (N + 1,), text (T, E), pooled (P,).

    The source is the column `source` where there is one (the frame at strength 0 may be its reconstruction)."""
    source = row.get("source") or row["frames"][row["strengths"].index(0)]
    frames = [working_image(read_image(frame), config.size, packing(pipe)) for frame in (source, *row["frames"])]
    text = base_of(pipe).encode_text(row["instruction"], config.max_sequence_length)
    latents = torch.cat([encode_frame(pipe, frame) for frame in frames])
    return {
        "source": latents[0],
        "latents": latents[1:],
        "strengths": torch.tensor(row["strengths"], dtype=torch.float32),
        "text": text.embeds[0],
        "pooled": text.pooled[0],
    }


def encode_frame(pipe: KontextSliderPipeline, frame: Image.Image) -> Tensor:
    """A picture as the pipeline feeds it to the transformer before packing, (1, C, h, w); its sides fit the packing."""
    pixels = pipe.image_processor.preprocess(frame, frame.height, frame.width)
    return pipe._encode_vae_image(pixels.to(pipe._execution_device, pipe.vae.dtype), None)  # (1, C, h, w), the mode


def find_problem(row: dict, highest: float) -> str | None:
    """What is wrong with a row: no source, uneven lists or sizes, strengths out of range, no instruction."""
    frames, strengths = row["frames"] or [], row["strengths"] or []
    pictures = [*frames, *([row["source"]] if row.get("source") else [])]
    if not all(isinstance(picture, Image.Image) for picture in pictures):
        return "frames that are no pictures"
    if len(frames) < 2 or len(frames) != len(strengths):
        return f"{len(frames)} frames and {len(strengths)} strengths"
    if not all(isinstance(strength, float | int) and math.isfinite(strength) for strength in strengths):
        return "strengths that are no numbers"
    if not 0 == min(strengths) <= max(strengths) <= highest:
        return f"strengths that do not start at 0 and stay below {highest:g}"
    if len({picture.size for picture in pictures}) > 1:
        return "frames of several sizes"
    return None if (row["instruction"] or "").strip() else "an empty instruction"


def _unusable(number: int, problem: str) -> InvalidInput:
    return InvalidInput(f"Row {number} of the data set has {problem}. Leave it out or repair it.")


class RowBatches:
    """Batches of rows of one latent size, every row about once an epoch, in an order that the seed fixes.

    A size with fewer rows than a batch repeats them; what is left over waits for the next shuffle. `held_out` are rows
    that are not trained on.
    """

    def __init__(self, rows: EncodedRows, config: SliderConfig) -> None:
        self.rows, self.config, self.key = rows, config, rows.key
        self.held_out = held_out_rows(len(rows), config.held_out)
        self._groups: dict[tuple[int, ...], list[int]] = {}
        for row, shape in enumerate(rows.shapes):
            if row not in self.held_out:
                self._groups.setdefault(shape, []).append(row)
        self._per_epoch = sum(max(1, len(rows) // config.batch_size) for rows in self._groups.values())
        self._epoch = lru_cache(maxsize=1)(self._shuffled)

    def numbers(self, step: int) -> list[int]:
        """Row numbers of the batch of a step."""
        epoch, number = divmod(step, self._per_epoch)
        return self._epoch(epoch)[number]

    def draw(self, step: int, part: int, num_parts: int) -> SliderBatch:
        """Part number `part` of the batch of a step."""
        size = self.config.batch_size // num_parts
        places = range(part * size, (part + 1) * size)
        numbers, first = self.numbers(step), step * self.config.batch_size
        rows = [draw_row(self.rows[numbers[place]], self.config, first + place) for place in places]
        stacked = {name: torch.stack([row[name].float() for row in rows]) for name in rows[0]}
        return SliderBatch(**stacked)

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng, size = np.random.default_rng((self.config.seed, epoch)), self.config.batch_size
        batches = []
        for rows in self._groups.values():
            batches += np.resize(rng.permutation(rows), (max(1, len(rows) // size), size)).tolist()
        return [batches[number] for number in rng.permutation(len(batches))]


def held_out_rows(num_rows: int, count: int) -> list[int]:
    """`count` rows that are not trained on, evenly spread, so that data sorted by category shows several."""
    if count >= num_rows:
        raise InvalidInput(f"{count} of {num_rows} rows are held out: none is left to train on. Lower held_out.")
    return [(2 * k + 1) * num_rows // (2 * count) for k in range(count)]


def draw_row(row: dict[str, Tensor], config: SliderConfig, place: int) -> dict[str, Tensor]:
    """One row with its random parts. `place`: how many rows the run has trained on before it."""
    state = np.random.SeedSequence((config.seed, place)).generate_state(1)
    generator = torch.Generator().manual_seed(int(state[0]))
    frame = int(torch.randint(len(row["strengths"]), (1,), generator=generator))
    sigma = sample_sigmas(config.timesteps, 1, generator)
    kept = torch.rand(1, generator=generator) >= config.slider_drop
    target = row["latents"][frame]
    return {
        **{name: row[name] for name in ("source", "text", "pooled")},
        "target": target,
        "strengths": row["strengths"][frame],
        "sigmas": sigma[0],
        "noise": config.noise_scale * torch.randn(target.shape, generator=generator),
        "kept": kept[0].float(),
    }
