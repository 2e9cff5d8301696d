"""PIE-Bench (Ju et al. 2024): 700 pictures of 512 x 512 with prompts and masks, in both layouts it is found in.

The original folder has `mapping_file.json` and `annotation_images/`; the hub copy (UB-CVML-Group/PIE_Bench_pp) has one
Parquet folder per type, without instructions. Nothing is downloaded here.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kontext_slider.errors import InvalidInput

SIDE = 512
TYPES = ("random", "object", "add", "delete", "content", "pose", "colour", "material", "background", "style")
PAPER_TYPES = tuple(name for name in TYPES if name not in ("add", "delete"))  # 540 of the 700


@dataclass(frozen=True)
class PieCase:
    """One edit. `instruction` is None in the hub's layout, which has none; prompts come without their brackets."""

    id: str
    kind: str  # one of TYPES
    image: Image.Image
    source_prompt: str
    target_prompt: str
    instruction: str | None
    mask: NDArray[np.bool_]  # (512, 512), True where the edit is expected


def read_pie_bench(folder: Path, kinds: Sequence[str] = PAPER_TYPES) -> Iterator[PieCase]:
    """The cases of some types, by id; by default those of the paper's Table 1.

    Raises InvalidInput for a folder in neither layout, a picture that is missing, or a type that is none."""
    unknown = [kind for kind in kinds if kind not in TYPES]
    if unknown:
        raise InvalidInput(f"PIE-Bench has no type '{unknown[0]}'. Its types are: {', '.join(TYPES)}.")
    if (folder / "mapping_file.json").is_file():
        cases: Iterable[PieCase] = _original(folder, kinds)
    elif any(folder.rglob("*.parquet")):
        cases = _hub(folder, kinds)
    else:
        raise InvalidInput(f"{folder} is no PIE-Bench: neither mapping_file.json nor Parquet files are in it.")
    yield from cases


def decode_mask(runs: Sequence[int]) -> NDArray[np.bool_]:
    """(start, length) pairs over the rows of 512 x 512 -> (512, 512)."""
    mask = np.zeros(SIDE * SIDE, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    return mask.reshape(SIDE, SIDE)


def plain_prompt(prompt: str) -> str:
    """Without the square brackets that mark the difference."""
    return re.sub(r"[\[\]]", "", prompt).strip()


def _original(folder: Path, kinds: Sequence[str]) -> Iterator[PieCase]:
    entries = json.loads((folder / "mapping_file.json").read_text(encoding="utf-8"))
    for name, entry in sorted(entries.items()):
        kind = TYPES[int(entry["editing_type_id"])]
        if kind not in kinds:
            continue
        path = folder / "annotation_images" / entry["image_path"]
        if not path.is_file():
            raise InvalidInput(f"PIE-Bench's picture {path} is missing.")
        yield PieCase(
            id=name,
            kind=kind,
            image=Image.open(path).convert("RGB"),
            source_prompt=plain_prompt(entry["original_prompt"]),
            target_prompt=plain_prompt(entry["editing_prompt"]),
            instruction=entry["editing_instruction"],
            mask=decode_mask(entry["mask"]),
        )


def _hub(folder: Path, kinds: Sequence[str]) -> Iterator[PieCase]:
    for file in sorted(folder.rglob("*.parquet")):
        kind = _kind_of(file, folder)
        if kind not in kinds:
            continue
        for row in _rows(file):
            yield PieCase(
                id=str(row["id"]),
                kind=kind,
                image=Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"),
                source_prompt=plain_prompt(row["source_prompt"]),
                target_prompt=plain_prompt(row["target_prompt"]),
                instruction=None,
                mask=decode_mask([int(value) for value in _values(row["mask"])]),
            )


def _kind_of(file: Path, folder: Path) -> str:
    """The type that a Parquet file's folder is named after, "6_change_color_40" say: its leading number."""
    for part in file.relative_to(folder).parts:
        if number := re.match(r"(\d)(?!\d)", part):
            return TYPES[int(number[1])]
    raise InvalidInput(f"The folder of {file} does not begin with the number of a PIE-Bench type.")


def _values(mask: Any) -> Sequence[Any]:
    return mask.split() if isinstance(mask, str) else list(mask)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InvalidInput("Reading Parquet needs the package pyarrow: `pip install pyarrow`.") from error
    return parquet.read_table(file).to_pylist()
