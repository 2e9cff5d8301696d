"""What one run of `evaluate` compares: the model, the methods beside it and the distances, as its flags name them.

Made from the flags alone, so that every process of a run can make its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.base_run import Method
from kontext_slider.evaluate.compare import CEILING
from kontext_slider.evaluate.report import NOT_ANCHORED, OURS
from kontext_slider.evaluate.rivals import RIVALS, morph_rival, not_anchored, ours
from kontext_slider.features import find_distance
from kontext_slider.metrics.distances import Distance
from kontext_slider.metrics.networks import CLIP
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline

FREE_MORPH = "free-morph"


@dataclass(frozen=True)
class Kit:
    """The model under test, and what is measured on it."""

    pipe: KontextSliderPipeline
    rivals: Mapping[str, Method]
    ablations: Mapping[str, Method]
    distances: Mapping[str, Distance]

    @property
    def methods(self) -> dict[str, Method]:
        """Ours first."""
        return {OURS: ours, **self.rivals, **self.ablations}


def make_kit(args: argparse.Namespace) -> Kit:
    """All of it; ablations that are to be trained are, where they are not there."""
    ablations = find_ablations(args)
    pipe = load(args)
    if pipe.defaults.anchor_source:
        ablations[NOT_ANCHORED] = not_anchored
    rivals = {name: RIVALS[name] for name in (RIVALS if args.rivals is None else args.rivals)}
    if args.free_morph_model:
        rivals[FREE_MORPH] = load_free_morph(pipe, args.free_morph_model)
    return Kit(pipe, rivals, ablations, distances_of(pipe, args))


def load(args: argparse.Namespace) -> KontextSliderPipeline:
    """The model under test."""
    return load_pipeline(args.model, slider=args.slider, device=args.device, dtype=args.dtype)


def distances_of(pipe: KontextSliderPipeline, args: argparse.Namespace) -> dict[str, Distance]:
    """Those asked for, by name."""
    return {name: find_distance(name, pipe, args.clip or CLIP, args.dino) for name in args.distance}


def parse_ablations(words: list[str]) -> dict[str, Path]:
    """ "NAME=FOLDER" -> {NAME: FOLDER}. Raises InvalidInput for other words and for names that are taken."""
    pairs = [word.partition("=") for word in words]
    for name, sign, folder in pairs:
        if not name or not sign or not folder:
            raise InvalidInput(f"--ablation takes NAME=FOLDER, not '{name}{sign}{folder}'.")
    names = [name for name, _, _ in pairs]
    taken = [
        name for name in names if names.count(name) > 1 or name in (OURS, CEILING, FREE_MORPH, NOT_ANCHORED, *RIVALS)
    ]
    if taken:
        raise InvalidInput(f"The name '{taken[0]}' is taken. Give every --ablation a name of its own.")
    return {name: Path(folder) for name, _, folder in pairs}


def find_ablations(args: argparse.Namespace) -> dict[str, Method]:
    """Those in named folders, and those that are trained here."""
    folders = parse_ablations(args.ablation)
    if args.trained_ablations:
        from kontext_slider.train.slider.pocket_ablations import trained_ablations

        trained = (args.model, args.trained_ablations, args.ablation_steps, args.ablation_sequences)
        folders = trained_ablations(*trained) | folders
    return {name: load_ablation(folder) for name, folder in folders.items()}


def load_ablation(folder: Path) -> Method:
    """A trained slider of any kind as a method on the pipeline of its base model."""
    from kontext_slider.train.slider.ablations import ablation_method, load_slider_of

    return ablation_method(load_slider_of(folder))


def load_free_morph(pipe: KontextSliderPipeline, folder: Path) -> Method:
    """FreeMorph on a Stable Diffusion 2.1, between the source and this pipeline's edit."""
    from kontext_slider.train.data.morph.registry import FREEMORPH, find_morpher

    return morph_rival(find_morpher(FREEMORPH, pipe._execution_device, pipe.transformer.dtype, str(folder)))
