"""Frames against the ground truth: synthetic scenes know what every edit looks like at every strength.

Scenes are held out by their seed. On photographs the edits of the whole picture have a ground truth as well: the edit's
own function applied to the photograph. Figures are PSNR in dB over the clipped picture, and beside them stands the
ceiling: what the codec alone leaves of the truth.

Legend: pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from kontext_slider.base_edit import coded
from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image, working_image
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.statistics import markdown
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import HELD_OUT_SEED, Case, draw_case, scene_cases
from kontext_slider.world.edits import EDITS, PICTURE_EDITS, family

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = (192, 256, 384, 512)
SIZE_STRENGTHS = (0.5, 1.0)
BEYOND = (1.0, 1.25, 1.5)  # strengths past the full edit


@dataclass(frozen=True)
class Score:
    """One frame: dB to the truth, dB of the codec alone and of the untouched source, and its progress (0 to 1)."""

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
        source = to_picture(working_image(read_image(path), size, multiple))
        for number, edit in enumerate(PICTURE_EDITS):
            words = edit.instructions()
            truth = partial(edit.apply_to, source)
            yield Case("photo", edit.name, words[number % len(words)], source, truth, goes_on=edit.goes_on)


def score_case(pipe: KontextSliderPipeline, case: Case, strengths: Sequence[float], seed: int) -> list[Score]:
    """Render a case at all strengths and compare. `seed` draws the noise."""
    picture = to_image(case.source)
    call = {"width": picture.width, "height": picture.height, "generator": torch.Generator().manual_seed(seed)}
    frames = pipe(picture, case.instruction, strength=list(strengths), output_type="np", **call).images
    truths = [case.truth(strength) for strength in strengths]
    return [
        Score(
            kind=case.kind,
            edit=case.edit,
            strength=strength,
            psnr=psnr(frame, truth),
            ceiling=psnr(coded(pipe, truth), truth),
            untouched=psnr(case.source, truth),
            progress=progress,
            true_progress=true_progress,
        )
        for strength, frame, truth, progress, true_progress in zip(
            strengths, frames, truths, _progress(list(frames)), _progress(truths), strict=True
        )
    ]


def _progress(pictures: list[Picture]) -> list[float]:
    """Root-mean-square distance to the first picture as a share of the last one's."""
    distances = [float(np.sqrt(np.mean((picture - pictures[0]) ** 2))) for picture in pictures]
    return [distance / max(distances[-1], 1e-6) for distance in distances]


def score_truth(
    pipe: KontextSliderPipeline, scenes_per_edit: int, photos: Sequence[Path], seed: int = 0
) -> list[Score]:
    """Score held-out scenes for every edit, and every picture edit on every photograph, at STRENGTHS.

    `seed` draws scenes and noise. `model_card.measure` chooses on seed 0's scenes which edits a model offers: what is
    said of the offered edits as such needs another seed, or it is tested on what chose it."""
    size, multiple = pipe.defaults.size, 2 * pipe.vae_scale_factor
    cases = [*scene_cases(scenes_per_edit, size, HELD_OUT_SEED + seed), *photo_cases(photos, size, multiple)]
    pipe.set_progress_bar_config(disable=True)
    return [score for case in tqdm(cases, unit="edit") for score in score_case(pipe, case, STRENGTHS, seed)]


def score_sizes(
    pipe: KontextSliderPipeline, sizes: Sequence[int] = SIZES, every: int = 4, seed: int = HELD_OUT_SEED
) -> dict[int, list[Score]]:
    """Does a model hold away from the size it was trained at? Square scenes of every `every`-th edit, the same at all
    sizes, at SIZE_STRENGTHS."""
    pipe.set_progress_bar_config(disable=True)
    chosen = list(enumerate(EDITS.values()))[::every]
    scores: dict[int, list[Score]] = {size: [] for size in sizes}
    for size in sizes:
        for number, edit in chosen:
            case = draw_case(edit, np.random.default_rng((seed, number)), size)
            scores[size] += score_case(pipe, case, SIZE_STRENGTHS, 0)
    return scores


def find_photos(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder, by name. Raises InvalidInput where there is no folder, or none in it."""
    files = folder.iterdir() if folder.is_dir() else ()
    photos = sorted(path for path in files if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise InvalidInput(
            f"There are no photographs in {folder}. Give a folder with JPEG or PNG files in it: --photos."
        )
    return photos


def score_beyond(pipe: KontextSliderPipeline, cases: Sequence[Case], seed: int) -> dict[str, dict[float, float]]:
    """Mean dB to the truth at the strengths of BEYOND: {"slider": {1.0: 33.1, ...}, "stay": ...}, where "stay" is the
    frame at strength 1, which a slider without extrapolation shows."""
    pipe.set_progress_bar_config(disable=True)
    rows: dict[str, list[list[float]]] = {"slider": [], "stay": []}
    for case in tqdm(cases, unit="edit"):
        call = {"generator": torch.Generator().manual_seed(seed), "output_type": "np", "allow_extrapolation": True}
        frames = list(pipe(to_image(case.source), case.instruction, strength=list(BEYOND), **call).images)
        truths = [case.truth(strength) for strength in BEYOND]
        rows["slider"].append([psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)])
        rows["stay"].append([psnr(frames[0], truth) for truth in truths])
    return {
        name: {s: round(float(np.mean([row[n] for row in values])), 2) for n, s in enumerate(BEYOND)}
        for name, values in rows.items()
    }


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
            _mean([score for score in scores if score.kind == kind], "psnr", strength), 2
        )
        for kind, strength in keys
    }


def table(scores: Sequence[Score], kind: str) -> str:
    """Markdown: one row per edit, dB at each strength, the codec's ceiling at full strength, and the progress."""
    rows = [score for score in scores if score.kind == kind]
    strengths = sorted({row.strength for row in rows})
    heads = ["edit", *(f"dB at {s:g}" for s in strengths), "codec at 1", "untouched at 1", "progress (true)"]
    groups = {name: [row for row in rows if family(row.edit) == name] for name in (family(row.edit) for row in rows)}
    lines = [(name, *_cells(group, strengths)) for name, group in (*groups.items(), ("**mean**", rows))]
    return markdown(heads, lines)


def _cells(rows: Sequence[Score], strengths: Sequence[float]) -> list[str]:
    decibels = [f"{_mean(rows, 'psnr', s):.1f}" for s in strengths]
    bounds = [f"{_mean(rows, name, strengths[-1]):.1f}" for name in ("ceiling", "untouched")]
    shares = [f"{_mean(rows, 'progress', s):.2f} ({_mean(rows, 'true_progress', s):.2f})" for s in strengths[1:-1]]
    return [*decibels, *bounds, " ".join(shares)]


def size_table(scores: dict[int, list[Score]]) -> str:
    """Markdown: one row per size."""
    columns = (("psnr", 0.5), ("psnr", 1.0), ("ceiling", 1.0), ("untouched", 1.0))
    lines = [(f"{size} x {size}", *(f"{_mean(rows, *c):.1f}" for c in columns)) for size, rows in scores.items()]
    return markdown(("pixels", "dB at 0.5", "dB at 1", "codec at 1", "untouched at 1"), lines)


def _mean(rows: Sequence[Score], name: str, strength: float) -> float:
    return float(np.mean([getattr(row, name) for row in rows if row.strength == strength]))
