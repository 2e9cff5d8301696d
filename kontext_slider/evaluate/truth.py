"""Frames against the ground truth: synthetic scenes know what every edit looks like at every strength.

Scenes are held out by their seed. On photographs the edits of the whole picture have a ground truth as well: the edit's
own function applied to the photograph. Figures are PSNR in dB over the clipped picture, and beside them stands the
ceiling: what the codec alone leaves of the truth.

Legend: pictures (H, W, 3) float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from kontext_slider.metrics.distances import psnr, rms
from kontext_slider.metrics.statistics import markdown
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import HELD_OUT_SEED, Case, draw_case, draw_cases
from kontext_slider.world.edits import EDITS, PICTURE_EDITS, family

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES, SIZE_STRENGTHS = (192, 256, 384, 512), (0.5, 1.0)
BEYOND = (1.0, 1.25, 1.5)  # strengths past the full edit


@dataclass(frozen=True)
class Score:
    """One frame: dB to the truth, dB of the codec alone and of the untouched source, and its progress: the root mean
    square distance to the first frame as a share of the last one's."""

    kind: str
    edit: str
    strength: float
    psnr: float
    ceiling: float
    untouched: float
    progress: float
    true_progress: float


def score_truth(pipe: KontextSliderPipeline, scenes_per_edit: int, photos: Sequence[Path], seed: int) -> list[Score]:
    """Score held-out scenes for every edit, and every picture edit on every photograph, at STRENGTHS.

    `seed` draws scenes and noise. `model_card.measure` chooses on a choosing seed's scenes which edits a model offers:
    what is said of the offered edits as such needs a reporting seed, or it is tested on what chose it."""
    size, multiple = pipe.defaults.size, 2 * pipe.vae_scale_factor
    scenes = draw_cases(scenes_per_edit * len(EDITS), size, HELD_OUT_SEED + seed)
    pipe.set_progress_bar_config(disable=True)
    cases = tqdm([*scenes, *photo_cases(photos, size, multiple)], unit="edit")
    return [score for case in cases for score in score_case(pipe, case, STRENGTHS, seed)]


def photo_cases(paths: Sequence[Path], size: int, multiple: int) -> Iterator[Case]:
    """Every edit of the whole picture on every photograph."""
    for path in paths:
        source = to_picture(working_image(read_image(path), size, multiple))
        for number, edit in enumerate(PICTURE_EDITS):
            words = edit.instructions()
            truth = partial(edit.apply_to, source)
            yield Case("photo", edit.name, words[number % len(words)], source, truth, goes_on=edit.goes_on)


def find_photos(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder, by name. Raises InvalidInput where there is no folder, or none in it."""
    files = folder.iterdir() if folder.is_dir() else ()
    photos = sorted(path for path in files if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not photos:
        raise InvalidInput(
            f"There are no photographs in {folder}. Give a folder with JPEG or PNG files in it: --photos."
        )
    return photos


def score_case(pipe: KontextSliderPipeline, case: Case, strengths: Sequence[float], seed: int) -> list[Score]:
    """Render a case at all strengths and compare. `seed` draws the noise."""
    frames = _render(pipe, case, strengths, seed)
    truths = [case.truth(strength) for strength in strengths]
    progress = [(row / max(row[-1], 1e-6)).tolist() for row in (rms(frames)[0], rms(truths)[0])]
    return [
        Score(
            kind=case.kind,
            edit=case.edit,
            strength=strength,
            psnr=psnr(frame, truth),
            ceiling=psnr(coded(pipe, truth), truth),
            untouched=psnr(case.source, truth),
            progress=own,
            true_progress=true,
        )
        for strength, frame, truth, own, true in zip(strengths, frames, truths, *progress, strict=True)
    ]


def _render(pipe: KontextSliderPipeline, case: Case, strengths: Sequence[float], seed: int) -> list[Picture]:
    """Frames at the source's own size, beyond strength 1 too."""
    source, generator = to_image(case.source), torch.Generator().manual_seed(seed)
    call = {"width": source.width, "height": source.height, "output_type": "np", "allow_extrapolation": True}
    call |= {"strength": list(strengths), "generator": generator, "source_at_zero": False}
    return list(pipe(source, case.instruction, **call).images)


def score_sizes(
    pipe: KontextSliderPipeline, sizes: Sequence[int] = SIZES, every: int = 4, seed: int = HELD_OUT_SEED
) -> dict[int, list[Score]]:
    """Does a model hold away from the size it was trained at? Square scenes of every `every`-th edit, the same at all
    sizes, at SIZE_STRENGTHS."""
    pipe.set_progress_bar_config(disable=True)
    scores: dict[int, list[Score]] = {size: [] for size in sizes}
    for size in sizes:
        for number, edit in list(enumerate(EDITS.values()))[::every]:
            case = draw_case(edit, np.random.default_rng((seed, number)), size)
            scores[size] += score_case(pipe, case, SIZE_STRENGTHS, 0)
    return scores


def score_beyond(pipe: KontextSliderPipeline, case: Case, seed: int) -> dict[str, list[float]]:
    """dB to the truth at the strengths of BEYOND: of the "slider", and to "stay" at its frame of strength 1, which is
    what one without extrapolation shows."""
    frames = _render(pipe, case, BEYOND, seed)
    truths = [case.truth(strength) for strength in BEYOND]
    return {"slider": list(map(psnr, frames, truths)), "stay": [psnr(frames[0], truth) for truth in truths]}


def working_edits(scores: Sequence[Score], gain: float = 3.0) -> set[str]:
    """Families of edits whose frames at full strength come at least `gain` dB nearer to the truth than the untouched
    source does, on scenes or on photographs, by more than chance (the mean less its standard error): those that a model
    may honestly offer."""
    gains: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        if score.strength == 1:
            gains.setdefault((score.kind, family(score.edit)), []).append(score.psnr - score.untouched)
    errors = {key: np.std(v, ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for key, v in gains.items()}
    return {name for (kind, name), values in gains.items() if np.mean(values) - errors[kind, name] >= gain}


def summary(scores: Sequence[Score]) -> dict[str, float]:
    """Mean dB by kind of source and strength: {"scene_psnr_0.5": 31.2, ...}."""
    keys = dict.fromkeys((score.kind, score.strength) for score in scores)
    groups = {(kind, s): [score for score in scores if score.kind == kind] for kind, s in keys}
    return {f"{kind}_psnr_{s:g}": round(_mean(rows, "psnr", s), 2) for (kind, s), rows in groups.items()}


def table(scores: Sequence[Score], kind: str) -> str:
    """Markdown: one row per edit, dB at each strength, the codec's ceiling at full strength, and the progress."""
    rows = [score for score in scores if score.kind == kind]
    strengths = sorted({row.strength for row in rows})
    heads = ["edit", *(f"dB at {s:g}" for s in strengths), "codec at 1", "untouched at 1", "progress (true)"]
    groups: dict[str, list[Score]] = {}
    for row in rows:
        groups.setdefault(family(row.edit), []).append(row)
    lines = []
    for name, group in {**groups, "**mean**": rows}.items():
        columns = [*(("psnr", s) for s in strengths), ("ceiling", strengths[-1]), ("untouched", strengths[-1])]
        shares = [
            f"{_mean(group, 'progress', s):.2f} ({_mean(group, 'true_progress', s):.2f})" for s in strengths[1:-1]
        ]
        lines.append((name, *(f"{_mean(group, *column):.1f}" for column in columns), " ".join(shares)))
    return markdown(heads, lines)


def size_table(scores: Mapping[int, Sequence[Score]]) -> str:
    """Markdown: one row per size."""
    columns = (("psnr", 0.5), ("psnr", 1.0), ("ceiling", 1.0), ("untouched", 1.0))
    lines = [(f"{size} x {size}", *(f"{_mean(rows, *c):.1f}" for c in columns)) for size, rows in scores.items()]
    return markdown(("pixels", "dB at 0.5", "dB at 1", "codec at 1", "untouched at 1"), lines)


def _mean(rows: Sequence[Score], name: str, strength: float) -> float:
    return float(np.mean([getattr(row, name) for row in rows if row.strength == strength]))
