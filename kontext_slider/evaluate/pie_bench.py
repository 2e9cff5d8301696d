"""PIE-Bench (Ju et al. 2024): 700 pictures of 512 x 512 with prompts, instructions and masks, in either layout.

The original one has `mapping_file.json` and `annotation_images/`. The hub's (`UB-CVML-Group/PIE_Bench_pp`) is a folder
of Parquet files per type (`9_change_style_80/V1-*.parquet`) with prompts but no instructions: there the instruction is
made from what differs between the two prompts. Nothing is downloaded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from io import BytesIO
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
    """One edit. Prompts come without their brackets."""

    id: str
    kind: str  # one of TYPES
    image: Image.Image
    source_prompt: str
    target_prompt: str
    instruction: str
    mask: NDArray[np.bool_]  # (512, 512), True where the edit is expected


def read_pie_bench(folder: Path, kinds: Sequence[str] = PAPER_TYPES) -> Iterator[PieCase]:
    """The cases of some types, in the order of their ids; by default those of the paper's Table 1.

    Raises InvalidInput for another folder, a picture that is missing, a type that is none, and without `datasets`
    where there are Parquet files to read."""
    unknown = [kind for kind in kinds if kind not in TYPES]
    if unknown:
        raise InvalidInput(f"PIE-Bench has no type '{unknown[0]}'. Its types are: {', '.join(TYPES)}.")
    if (folder / "mapping_file.json").is_file():
        yield from _original(folder, kinds)
    elif files := sorted(folder.glob("[0-9]_*/**/*.parquet")):
        yield from _hub(files, folder, kinds)
    else:
        raise InvalidInput(
            f"{folder} is no PIE-Bench: neither mapping_file.json nor Parquet files are in it. Get it with "
            f"'hf download UB-CVML-Group/PIE_Bench_pp --repo-type dataset --local-dir {folder}'."
        )


def decode_mask(runs: Sequence[int]) -> NDArray[np.bool_]:
    """(start, length) pairs over the rows of 512 x 512 -> (512, 512)."""
    mask = np.zeros(SIDE * SIDE, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    return mask.reshape(SIDE, SIDE)


def plain_prompt(prompt: str) -> str:
    """Without the square brackets that mark the difference."""
    return re.sub(r"[\[\]]", "", prompt).strip()


def difference(source: str, target: str) -> str:
    """An instruction that leads from one prompt to the other: "change round to square and add a hat"."""
    old, new = source.split(), target.split()
    steps = []
    for kind, i, j, k, m in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        before, after = " ".join(old[i:j]), " ".join(new[k:m])
        if kind == "replace":
            steps.append(f"change {before} to {after}")
        elif kind == "insert":
            steps.append(f"add {after}")
        elif kind == "delete":
            steps.append(f"remove {before}")
    return " and ".join(steps) or f"make it {target}"


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


def _hub(files: Sequence[Path], folder: Path, kinds: Sequence[str]) -> Iterator[PieCase]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InvalidInput("Parquet files are read with datasets: 'pip install datasets', then try again.") from error
    for path in files:
        kind = TYPES[int(path.relative_to(folder).parts[0][0])]
        if kind not in kinds:
            continue
        for row in load_dataset("parquet", data_files=str(path), split="train", streaming=True):
            source, target = plain_prompt(row["source_prompt"]), plain_prompt(row["target_prompt"])
            yield PieCase(
                id=row["id"],
                kind=kind,
                image=_decoded(row["image"]).convert("RGB"),
                source_prompt=source,
                target_prompt=target,
                instruction=difference(source, target),
                mask=decode_mask(_numbers(row["mask"])),
            )


def _decoded(image: Any) -> Image.Image:
    """A picture, or the bytes of its file where the Parquet file does not say that it is one."""
    return image if isinstance(image, Image.Image) else Image.open(BytesIO(image["bytes"]))


def _numbers(mask: str | Sequence[int]) -> Sequence[int]:
    return [int(word) for word in mask.split()] if isinstance(mask, str) else mask
