"""Frames against the truth: the small world knows what every edit looks like at every strength.

Scenes are held out by their seed. On photographs the edits of the whole picture have a truth as well: the edit's own
function applied to the photograph. Figures are PSNR in dB over the clipped picture, and beside them stands the ceiling:
what the codec alone leaves of the truth.

Legend: N strengths; pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from kontext_slider.encoding import coded
from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import HELD_OUT_SEED, Case, scene_cases
from kontext_slider.world.edits import PICTURE_EDITS, Edit, family
from kontext_slider.world.paint import Picture

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Score:
    """One frame: dB to the truth, dB of the codec alone and of the untouched source, and the way gone (0 to 1)."""

    kind: str
    edit: str
    strength: float
    psnr: float
    ceiling: float
    untouched: float
    progress: float
    true_progress: float


def photo_cases(paths: Sequence[Path], size: int, multiple: int) -> Iterable[Case]:
    """Every edit of the whole picture on every photograph."""
    for path in paths:
        pixels = np.asarray(working_image(read_image(path), size, multiple), dtype=np.float32)
        source: Picture = pixels / np.float32(255)
        for number, edit in enumerate(PICTURE_EDITS):
            words = edit.instructions()
            truth = _photo_truth(edit, source)
            yield Case("photo", edit.name, words[number % len(words)], source, truth, goes_on=edit.goes_on)


def _photo_truth(edit: Edit, source: Picture) -> Callable[[float], Picture]:
    return lambda strength: edit.apply_to(source, strength)


def score_case(pipe: KontextSliderPipeline, case: Case, strengths: Sequence[float], seed: int) -> list[Score]:
    """Render a case at all strengths and compare. `seed` draws the noise."""
    picture = Image.fromarray(np.rint(case.source * 255).astype(np.uint8))
    call = {"width": picture.width, "height": picture.height, "generator": torch.Generator().manual_seed(seed)}
    frames = pipe(picture, case.instruction, strength=list(strengths), output_type="np", **call).images
    truths = [case.truth(strength) for strength in strengths]
    way, true_way = _progress(list(frames)), _progress(truths)
    return [
        Score(
            kind=case.kind,
            edit=case.edit,
            strength=strength,
            psnr=psnr(frame, truth),
            ceiling=psnr(coded(pipe, truth), truth),
            untouched=psnr(case.source, truth),
            progress=gone,
            true_progress=true_gone,
        )
        for strength, frame, truth, gone, true_gone in zip(strengths, frames, truths, way, true_way, strict=True)
    ]


def score_truth(
    pipe: KontextSliderPipeline, scenes_per_edit: int, photos: Sequence[Path], seed: int = 0
) -> list[Score]:
    """Score held-out scenes for every edit, and every picture edit on every photograph, at STRENGTHS.

    `seed` draws scenes and noise. `train.pocket.recipe.measure` chooses on seed 0's scenes which edits a model offers:
    what is said of the offered edits as such wants another seed, or it is tested on what chose it."""
    size, multiple = pipe.defaults.size, 2 * pipe.vae_scale_factor
    cases = [*scene_cases(scenes_per_edit, size, HELD_OUT_SEED + seed), *photo_cases(photos, size, multiple)]
    pipe.set_progress_bar_config(disable=True)
    return [score for case in tqdm(cases, unit="edit") for score in score_case(pipe, case, STRENGTHS, seed)]


def find_photos(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder, by name. Raises InvalidInput where there is no folder, or none in it."""
    files = folder.iterdir() if folder.is_dir() else ()
    photos = sorted(path for path in files if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise InvalidInput(
            f"There are no photographs in {folder}. Give a folder with JPEG or PNG files in it: --photos."
        )
    return photos


def _progress(pictures: list[Picture]) -> list[float]:
    """Root-mean-square distance to the first picture as a share of the last one's."""
    distances = [float(np.sqrt(np.mean((picture - pictures[0]) ** 2))) for picture in pictures]
    return [distance / max(distances[-1], 1e-6) for distance in distances]


def table(scores: Sequence[Score], kind: str) -> str:
    """Markdown: one row per edit, dB at each strength, the codec's ceiling at full strength, and the way gone."""
    rows = [score for score in scores if score.kind == kind]
    strengths = sorted({row.strength for row in rows})
    heads = [f"{s:g}" for s in strengths]
    lines = [
        "| edit | " + " | ".join(f"dB at {h}" for h in heads) + " | codec at 1 | untouched at 1 | way gone (true) |"
    ]
    lines.append("|---" * (len(heads) + 4) + "|")
    for name in dict.fromkeys(family(row.edit) for row in rows):
        lines.append(_table_row(name, [row for row in rows if family(row.edit) == name], strengths))
    lines.append(_table_row("**mean**", rows, strengths))
    return "\n".join(lines)


def _table_row(name: str, rows: list[Score], strengths: list[float]) -> str:
    def mean(field: str, strength: float) -> float:
        return float(np.mean([getattr(row, field) for row in rows if row.strength == strength]))

    decibels = " | ".join(f"{mean('psnr', s):.1f}" for s in strengths)
    way = " ".join(f"{mean('progress', s):.2f} ({mean('true_progress', s):.2f})" for s in strengths[1:-1])
    bounds = f"{mean('ceiling', strengths[-1]):.1f} | {mean('untouched', strengths[-1]):.1f}"
    return f"| {name} | {decibels} | {bounds} | {way} |"


def working_edits(scores: Sequence[Score], gain: float = 3.0) -> set[str]:
    """Families of edits whose frames at full strength come at least `gain` dB nearer to the truth than the untouched
    source does, on scenes or on photographs, by more than chance (the mean less its standard error): those that a model
    may honestly offer."""
    gains: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        if score.strength == 1:
            gains.setdefault((score.kind, family(score.edit)), []).append(score.psnr - score.untouched)
    return {name for (_, name), values in gains.items() if np.mean(values) - _standard_error(values) >= gain}


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 for a single value, which says nothing of it."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Mean dB by kind of source and strength: {"scene_psnr_0.5": 31.2, ...}."""
    keys = dict.fromkeys((score.kind, score.strength) for score in scores)
    return {
        f"{kind}_psnr_{strength:g}": round(
            float(np.mean([s.psnr for s in scores if (s.kind, s.strength) == (kind, strength)])), 2
        )
        for kind, strength in keys
    }


def write_report(scores: Sequence[Score], folder: Path, command: str) -> None:
    """`truth.md` with the tables and `truth.jsonl` with every frame's score."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [kind for kind in ("scene", "photo") if any(score.kind == kind for score in scores)]
    parts = [f"# Frames against the truth\n\n`{command}`\n"]
    parts += [f"## On {kind}s\n\n{table(scores, kind)}\n" for kind in kinds]
    (folder / "truth.md").write_text("\n".join(parts), encoding="utf-8")
    (folder / "truth.jsonl").write_text("".join(json.dumps(asdict(score)) + "\n" for score in scores), encoding="utf-8")
