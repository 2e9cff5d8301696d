"""The paper's ablations trained on pocket's own drawn pairs: the same shards, batches, noise and loss as its slider.

"same-steps" is the shipped design trained for as long as the ablations are, which is what they are to be compared with;
"text-stream" adds the offsets where the paper does. "text-space" and "no-pooled": `ablations.py`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from kontext_slider.train.pocket.base import HOME, Batches
from kontext_slider.train.pocket.pairs import HIGHEST
from kontext_slider.train.pocket.slider import SliderRun, slider_batches, train_projector
from kontext_slider.train.slider.ablations import Projector, save_slider_of, slider_on
from kontext_slider.train.slider.model import fresh_slider

ABLATIONS = ("same-steps", "text-stream", "text-space", "no-pooled")
SIZES = tuple(replace(size, sources=size.sources // 2) for size in HOME if size.width == 256)


def train_ablation(
    pipe: KontextSliderPipeline, kind: str, run: SliderRun, folder: Path, batches: Batches | None = None
) -> Projector:
    """Train (or resume) one ablation in place, as `train_slider` does the slider; save it to `folder/KIND/slider`.

    A slider that is on the pipeline loses its LoRA to the ablation's; its projector is taken off.

    Args:
        kind: one of ABLATIONS.
        run: as for `train_slider`; `place` does not count for "text-space" and "text-stream".
        folder: checkpoints go to `folder/KIND`; the shards are the slider's, `folder/slider-*`, drawn if not there.
        batches: pairs to train on in the place of the shards; their `words` belong to this pipeline.

    Returns the trained projector. Raises InvalidInput for an unknown kind.
    """
    if kind not in ABLATIONS:
        raise InvalidInput(f"The ablation is one of {', '.join(ABLATIONS)}, not {kind!r}.")
    pipe.to(run.device)
    place = "text_stream" if kind == "text-stream" else run.place
    settings = {"hidden_dim": run.hidden_dim, "place": place, "highest_strength": HIGHEST}
    projector = fresh_slider(pipe, kind, run.rank, run.seed, **settings)

    def applied(strengths: Tensor, pooled: Tensor) -> AbstractContextManager[None]:
        return slider_on(pipe.transformer, projector, strengths, pooled)

    train_projector(pipe, projector, applied, batches or slider_batches(pipe, run, folder), run, folder / kind)
    save_slider_of(folder / kind / "slider", projector, pipe.transformer)
    return projector


def trained_ablations(model: str, folder: Path, steps: int) -> dict[str, Path]:
    """All ABLATIONS of a pocket model, name -> folder; those that are not in `folder` are trained there first, for
    `steps` steps on pictures of 256 pixels. Whatever it holds is taken for trained so."""
    for kind in ABLATIONS:
        if not (folder / kind / "slider").exists():
            train_ablation(load_pipeline(model, device="cpu"), kind, SliderRun(sizes=SIZES, steps=steps), folder)
    return {kind: folder / kind / "slider" for kind in ABLATIONS}
