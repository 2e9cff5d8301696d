"""PIE-Bench (Ju et al. 2024): 700 pictures of 512 x 512 with prompts, instructions and masks, from its original folder
(`mapping_file.json` and `annotation_images/`). Nothing is downloaded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """The cases of some types, by id; by default those of the paper's Table 1.

    Raises InvalidInput for another folder, a picture that is missing, or a type that is none."""
    unknown = [kind for kind in kinds if kind not in TYPES]
    if unknown:
        raise InvalidInput(f"PIE-Bench has no type '{unknown[0]}'. Its types are: {', '.join(TYPES)}.")
    if not (folder / "mapping_file.json").is_file():
        raise InvalidInput(f"{folder} is no PIE-Bench: mapping_file.json is not in it.")
    yield from _original(folder, kinds)


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
