"""The paper's ablations trained on pocket: the same noise, loss and number of steps as its slider's.

Most train on its own drawn pairs, from the same shards in the same batches; filtering and ends of sequences are about
pairs that the data pipeline made (`pocket_sequences.py`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from kontext_slider.projector import Place
from kontext_slider.train.data.workspace import Recipe
from kontext_slider.train.pocket.batches import Batches
from kontext_slider.train.pocket.pairs import HIGHEST
from kontext_slider.train.pocket.slider import SliderRun, slider_batches, train_projector
from kontext_slider.train.slider.ablations import ABLATIONS, Projector, save_slider_of, slider_on
from kontext_slider.train.slider.model import fresh_slider
from kontext_slider.train.slider.pocket_sequences import KINDS, MORPHER, sequence_batches

SIZES = tuple(size for size in SliderRun().sizes if size.width == 256)  # the slider's own shards serve here as well
PAIRED, OWN_GUESS, POLYNOMIAL = "paired", "own-guess", "polynomial"
PLACES: dict[str, Place] = {"text-stream": "text_stream", "per-block": "every_block"}  # of ablations that are about it


def train_ablation(pipe: KontextSliderPipeline, kind: str, run: SliderRun, folder: Path, batches: Batches) -> Projector:
    """Train (or resume) one ablation in place, as `train_slider` does the slider; save it to `folder/KIND/slider`.

    A slider that is on the pipeline loses its LoRA to the ablation's; its projector is taken off.

    Args:
        kind: one of ABLATIONS.
        run: as for `train_slider`; `anchored` does not count, nor `own` but for "own-guess" and "polynomial", nor
            `degree` but for the latter, nor `place` for "text-space" and those of PLACES.
        folder: checkpoints go to `folder/KIND`.
        batches: the kind's pairs; their `words` belong to this pipeline.

    Returns the trained projector. Raises InvalidInput for an unknown kind.
    """
    if kind not in ABLATIONS:
        raise InvalidInput(f"The ablation is one of {', '.join(ABLATIONS)}, not {kind!r}.")
    pipe.to(run.device)
    place = PLACES.get(kind, run.place)
    settings: dict[str, Any] = {"hidden_dim": run.hidden_dim, "place": place, "highest_strength": HIGHEST}
    if kind == "sinusoidal":
        settings |= {"strength_encoding": "sinusoidal", "strength_dim": 128}
    if kind == POLYNOMIAL:
        settings |= {"degree": run.degree}
    projector = fresh_slider(pipe, kind, run.rank, run.seed, **settings)

    def applied(strengths: Tensor, pooled: Tensor) -> AbstractContextManager[None]:
        return slider_on(pipe.transformer, projector, strengths, pooled)

    guesses = kind in (OWN_GUESS, POLYNOMIAL)
    shown = replace(run, anchored=kind == PAIRED or guesses, own=run.own if guesses else 0.0)
    train_projector(pipe, projector, applied, batches, shown, folder / kind)
    save_slider_of(folder / kind / "slider", projector, pipe.transformer)
    return projector


def trained_ablations(model: str, folder: Path, steps: int, num_sequences: int) -> dict[str, Path]:
    """All ABLATIONS of a pocket model, name -> folder; those that are not in `folder` are trained there first, for
    `steps` steps on pictures of 256 pixels. Whatever it holds is taken for trained so.

    num_sequences: that the data pipeline makes in `folder/data`, for those of its sequences."""
    run = SliderRun(sizes=SIZES, steps=steps)
    for kind in ABLATIONS:
        if not (folder / kind / "slider").exists():
            pipe = load_pipeline(model, device=run.device)
            if kind in KINDS:
                recipe = Recipe(model, morpher=MORPHER, seed=run.seed)
                batches = sequence_batches(pipe, recipe, kind, num_sequences, folder / "data")
            else:
                batches = slider_batches(pipe, run, folder)
            train_ablation(pipe, kind, run, folder, batches)
    return {kind: folder / kind / "slider" for kind in ABLATIONS}
