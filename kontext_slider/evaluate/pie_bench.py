"""Sliders on PIE-Bench (Ju et al. 2024): 700 real pictures of 512 x 512 with prompts, instructions and masks.

There is no ground truth between the ends, so smoothness, direction, identity and background are measured. Two layouts
are read. The original one has `mapping_file.json` and `annotation_images/`. The hub's (`UB-CVML-Group/PIE_Bench_pp`) is
a folder of Parquet files per type (`9_change_style_80/V1-*.parquet`) with prompts but no instructions: there the
instruction is made from what differs between the two prompts. Nothing is downloaded here.

Legend: y_0 the source at the model's working size, y_1..y_N frames at strengths i/N, all (H, W, 3) in [0, 1].
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kontext_slider.base_edit import coded
from kontext_slider.errors import InvalidInput, UnreadableImage
from kontext_slider.evaluate.baselines import Method
from kontext_slider.evaluate.results import STRENGTHS, Result, check_frames, smoothness_of
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics import Picture, to_picture, trajectory
from kontext_slider.metrics.distances import Rulers, psnr
from kontext_slider.metrics.networks import ClipEmbedder, clip_direction, identity_curve
from kontext_slider.pipeline import KontextSliderPipeline

SIDE = 512
TYPES = ("random", "object", "add", "delete", "content", "pose", "colour", "material", "background", "style")
PAPER_TYPES = tuple(name for name in TYPES if name not in ("add", "delete"))  # 540 of the 700
DAMAGED = "PIE-Bench is damaged, download it again"
Entry = tuple[str, dict[str, Any], dict[str, Any]]  # what it is in a message, facts from beside it, its own


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


def read_pie_bench(folder: Path) -> Iterator[PieCase]:
    """The cases of the types of the paper's Table 1, in the order of their ids.

    Raises InvalidInput for another folder, an entry that is damaged, and without `datasets` where there are Parquet
    files to read; UnreadableImage for a picture that is damaged or missing."""
    files = sorted(folder.glob("[0-9]_*/**/*.parquet"))
    if not files and not (folder / "mapping_file.json").is_file():
        raise InvalidInput(
            f"{folder} is no PIE-Bench: neither mapping_file.json nor Parquet files are in it. Get it with "
            f"'hf download UB-CVML-Group/PIE_Bench_pp --repo-type dataset --local-dir {folder}'."
        )
    for what, facts, entry in _hub_entries(files, folder) if files else _original_entries(folder):
        with _checked(what):
            case = _case({**facts, **entry})
        if case:
            yield case


def _original_entries(folder: Path) -> Iterator[Entry]:
    path = folder / "mapping_file.json"
    with _checked(str(path)):
        entries = sorted(json.loads(path.read_text(encoding="utf-8")).items())
    for name, entry in entries:
        yield f"the entry '{name}' of {path}", {"id": name, "folder": folder / "annotation_images"}, entry


def _hub_entries(files: Sequence[Path], folder: Path) -> Iterator[Entry]:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InvalidInput("Parquet files are read with datasets: 'pip install datasets', then try again.") from error
    for path in files:
        number_of_type = path.relative_to(folder).parts[0][0]
        if TYPES[int(number_of_type)] not in PAPER_TYPES:
            continue
        with _checked(str(path)):
            rows = list(load_dataset("parquet", data_files=str(path), split="train", streaming=True))
        for number, row in enumerate(rows):
            yield f"row {number} of {path}", {"editing_type_id": number_of_type}, row


def _case(entry: dict[str, Any]) -> PieCase | None:
    """None for an entry of another type."""
    kind = TYPES[int(entry["editing_type_id"])]
    if kind not in PAPER_TYPES:
        return None
    is_hub = "image" in entry
    names = ("source_prompt", "target_prompt") if is_hub else ("original_prompt", "editing_prompt")
    source, target = (re.sub(r"[\[\]]", "", entry[name]).strip() for name in names)
    if is_hub:  # a picture, or its file's bytes where the Parquet file does not say that it is one
        picture = entry["image"] if isinstance(entry["image"], Image.Image) else entry["image"]["bytes"]
        instruction, runs = difference(source, target), [int(number) for number in entry["mask"].split()]
    else:
        picture = entry["folder"] / entry["image_path"]
        instruction, runs = entry["editing_instruction"].strip(), entry["mask"]
    if not instruction:
        raise ValueError("no instruction")
    return PieCase(entry["id"], kind, read_image(picture), source, target, instruction, decode_mask(runs))


def decode_mask(runs: Sequence[int]) -> NDArray[np.bool_]:
    """(start, length) pairs over the rows of 512 x 512 -> (512, 512)."""
    mask = np.zeros(SIDE * SIDE, dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    return mask.reshape(SIDE, SIDE)


def difference(source: str, target: str) -> str:
    """An instruction that leads from one prompt to the other: "change round to square and add a hat"."""
    old, new = source.split(), target.split()
    steps = []
    for kind, i, j, k, m in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        before, after = " ".join(old[i:j]), " ".join(new[k:m])
        words = {"replace": f"change {before} to {after}", "insert": f"add {after}", "delete": f"remove {before}"}
        steps += [words[kind]] if kind in words else []
    return " and ".join(steps) or f"make it {target}"


@contextmanager
def _checked(what: str) -> Iterator[None]:
    """Errors of damaged data in the block become a sentence that names `what` is read there."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(f"{DAMAGED}: the picture of {what} cannot be read. {error}") from error
    except Exception as error:  # a damaged file can raise anything from inside datasets
        raise InvalidInput(f"{DAMAGED}: {what} cannot be read ({type(error).__name__}: {error}).") from error


@dataclass(frozen=True)
class PieMeasures:
    """One method on one edit."""

    clip_dir: float | None  # None without CLIP
    background_psnr: float | None  # dB to the source outside the mask, mean over y_1..y_N; None without an outside
    background_codec: float | None  # dB that the codec alone leaves there


@dataclass(frozen=True)
class PieSetup:
    """What is measured, and by what. embedder: CLIP; without one nothing is said of direction and identity."""

    pipe: KontextSliderPipeline
    methods: Mapping[str, Method]
    rulers: Rulers
    embedder: ClipEmbedder | None = None


def measure_case(setup: PieSetup, case: PieCase, names: Sequence[str], seed: int) -> Iterator[tuple[str, Result]]:
    """Some of the methods on one edit, one after the other, at the model's working size; `seed` draws the noise.

    Curves are, by ruler, the distance to y_0 as a share of y_N's and, with CLIP, the "identity" (see `identity_curve`).
    InvalidInput for frames that are no pictures."""
    pipe = setup.pipe
    pipe.set_progress_bar_config(disable=True)
    image = working_image(case.image, pipe.defaults.size, 2 * pipe.vae_scale_factor)
    source, background = to_picture(image), ~resized_mask(case.mask, image.size)
    codec = outside_psnr([coded(pipe, source)], source, background)
    for name in names:
        frames = setup.methods[name](pipe, image, case.instruction, STRENGTHS[1:], seed)
        check_frames(name, frames, case.id)
        matrices, embedder = setup.rulers([source, *frames]), setup.embedder
        captions = case.source_prompt, case.target_prompt
        measures = PieMeasures(
            clip_dir=clip_direction(embedder, [source, *frames], captions) if embedder else None,
            background_psnr=outside_psnr(frames, source, background),
            background_codec=codec,
        )
        curves = {ruler: trajectory.progress(matrix).tolist() for ruler, matrix in matrices.items()}
        if embedder:
            curves["identity"] = identity_curve(embedder.embed_images, [source, *frames]).tolist()
        yield name, Result(measures, smoothness_of(matrices), curves)


def outside_psnr(frames: Sequence[Picture], source: Picture, background: NDArray[np.bool_]) -> float | None:
    """Mean dB of frames to the source where the edit is not; None where less than a hundredth is left."""
    if background.mean() < 0.01:
        return None
    return float(np.mean([psnr(frame[background], source[background]) for frame in frames]))


def resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(512, 512) -> (H, W) for a size of (W, H): True wherever any of it was, so that its rim is no background."""
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(grown) > 0
