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
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from kontext_slider.errors import InvalidInput
from kontext_slider.images import read_image, working_image
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.pocket.edits import EDITS, PICTURE_EDITS, Edit
from kontext_slider.train.pocket.pace import family
from kontext_slider.train.pocket.paint import Picture
from kontext_slider.train.pocket.world import Scene, draw, draw_mask, random_scene

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HELD_OUT_SEED = 1_000_000  # held-out scenes have seeds from here on; training's are small: pocket's runs had 0 to 8


@dataclass(frozen=True)
class Case:
    """One source, one instruction, and the truth at any strength from 0 to 1, or to 1.5 where the edit `goes_on`.

    `mask` is where the object stands that the instruction names, (H, W), None for other edits; `others` is where any
    other object stands. `held_out`: whether the phrasing is one that training never saw."""

    kind: str  # "scene" or "photo"
    edit: str
    instruction: str
    source: Picture
    truth: Callable[[float], Picture]
    mask: NDArray[np.bool_] | None = None
    others: NDArray[np.bool_] | None = None
    held_out: bool = False
    goes_on: bool = False


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


def psnr(picture: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio in dB of two pictures in [0, 1]; 99 where they are equal."""
    error = float(np.mean((np.clip(picture, 0, 1) - truth) ** 2))
    return min(99.0, -10 * float(np.log10(max(error, 1e-12))))


def scene_cases(per_edit: int, size: int, seed: int = HELD_OUT_SEED, held_out: bool = False) -> Iterable[Case]:
    """`per_edit` held-out scenes for every edit the world knows; `held_out`: in phrasings that training never saw.

    A scene is a function of seed, edit and its number: more per edit begin with the same ones. Those of HELD_OUT_SEED
    itself have chosen the edits that pocket offers, see `score_truth`."""
    for number, edit in enumerate(EDITS.values()):
        for index in range(per_edit):
            yield draw_case(edit, np.random.default_rng((seed, number, index)), size, held_out)


@dataclass(frozen=True)
class SceneTruth:
    """The truth of a case on a drawn scene; values alone, so that it can go to another process."""

    edit: str
    scene: Scene
    size: int
    target: int
    paced: bool

    def __call__(self, strength: float) -> Picture:
        return EDITS[self.edit].apply(self.scene, strength, self.size, self.size, self.target, self.paced)


def draw_case(edit: Edit, rng: np.random.Generator, size: int, held_out: bool = False, paced: bool = True) -> Case:
    """A scene that the edit can be done to, and one of its objects; `paced` as in `Edit.apply`."""
    scene = random_scene(rng)
    while not edit.targets(scene):
        scene = random_scene(rng)
    target = int(rng.choice(edit.targets(scene)))
    noun = scene.name_of(target) if edit.kinds else None
    words = edit.held_out_instructions(noun) if held_out else edit.instructions(noun)
    masks = [draw_mask(scene, number, size, size) for number in range(len(scene.things))] if edit.kinds else []
    return Case(
        kind="scene",
        edit=edit.name,
        instruction=words[rng.integers(len(words))],
        source=draw(scene, size, size),
        truth=SceneTruth(edit.name, scene, size, target, paced),
        mask=masks.pop(target) if masks else None,
        others=np.any(masks, axis=0) if masks else None,
        held_out=held_out,
        goes_on=edit.goes_on,
    )


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


@torch.no_grad()
def coded(pipe: KontextSliderPipeline, picture: Picture) -> Picture:
    pixels = torch.from_numpy(picture.transpose(2, 0, 1))[None].to(pipe.device, pipe.vae.dtype) * 2 - 1
    decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
    return ((decoded[0].float().cpu().numpy().transpose(1, 2, 0)) + 1) / 2


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
