"""What `kontext-slider evaluate` measures: the model, methods and rulers that its flags name."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from kontext_slider.cli.morphers import chosen_morphers
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.ablations import ablation_method
from kontext_slider.evaluate.baselines import BASELINES, CONCEPT_SLIDER, Method, available, by_morpher, ours
from kontext_slider.evaluate.baselines.lora import ConceptSlider
from kontext_slider.evaluate.pie_bench import PieSetup
from kontext_slider.evaluate.rows import ANCHOR, CEILING, OURS, PARTS, Setup, run_names
from kontext_slider.features import find_rulers
from kontext_slider.files import file_sha256, folder_sha256
from kontext_slider.metrics.networks import ClipEmbedder
from kontext_slider.morph import OWN_MODELS
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline


def make_setup(args: argparse.Namespace) -> Setup:
    """The model, the methods and the rulers that the flags name. Every process of a run makes its own."""
    folders = parse_ablations(args.ablation)
    ablations = {name: [ablation_method(folder) for folder in runs] for name, runs in folders.items()}
    pipe = load(args)
    baselines = available(pipe, args.baselines, args.concept_sliders) | morpher_methods(args, pipe)
    return Setup(pipe, find_rulers(args.distance, pipe, args.clip), baselines, ablations)


def morpher_methods(args: argparse.Namespace, pipe: KontextSliderPipeline) -> dict[str, Method]:
    """The morphers with models of their own that the flags name, as methods, beside the pipeline under test."""
    chosen = chosen_morphers(args, pipe._execution_device, pipe.transformer.dtype)
    return {name: by_morpher(morpher) for name, morpher in chosen.items()}


def load(args: argparse.Namespace) -> KontextSliderPipeline:
    """The model under test, with settings in its configuration. A model that names none (FLUX.1 Kontext) would render
    its slider at the parent pipeline's size and guidance, and everything that it is compared with at `EditDefaults`."""
    pipe = load_pipeline(args.model, slider=args.slider, device=args.device, dtype=args.dtype)
    if not pipe.config.edit_defaults:
        pipe.register_to_config(edit_defaults=asdict(pipe.defaults))
    return pipe


def parse_ablations(words: list[str]) -> dict[str, list[Path]]:
    """ "NAME=FOLDER" -> {NAME: its folders}, one for each training run. Raises InvalidInput for other words, names of
    other rows, and a folder that is given twice."""
    folders: dict[str, list[Path]] = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not name or not folder:
            raise InvalidInput(f"--ablation takes NAME=FOLDER, not '{word}'.")
        if name.removesuffix(ANCHOR) in (*PARTS, CEILING, CONCEPT_SLIDER, *OWN_MODELS, *BASELINES):
            raise InvalidInput(f"The name '{name}' is taken. Give every --ablation a name of its own.")
        runs = folders.setdefault(name, [])
        if Path(folder) in runs:
            raise InvalidInput(f"The --ablation {word} is given twice. Another training run is in another folder.")
        runs.append(Path(folder))
    return folders


def described_methods(args: argparse.Namespace, default: Sequence[str] = ()) -> dict[str, str]:
    """What the flags name, in words that are the same where the method is: free numbers, digest of the weights, or the
    name of a model. Loads nothing. default: the baselines where no flag names any."""
    named = {OURS: "the model's own slider"}
    baselines = default if args.baselines is None else args.baselines
    named |= {name: getattr(BASELINES[name], "__name__", repr(BASELINES[name])) for name in baselines}
    if CONCEPT_SLIDER in named and args.concept_sliders:
        named[CONCEPT_SLIDER] += f" of {folder_sha256(args.concept_sliders)}"
    for name, folders in parse_ablations(args.ablation).items():
        digests = [f"the slider {folder_sha256(folder)}" for folder in folders]
        named |= zip(run_names(name, len(folders)), digests, strict=True)
    models = {name: getattr(args, name.replace("-", "_")) for name in OWN_MODELS}
    words = Path(args.captions)
    captions = f"{words} ({file_sha256(words)[:16]})" if words.is_file() else args.captions
    return named | {name: f"{model}, captions {captions}" for name, model in models.items() if model}


def check_concept_sliders(args: argparse.Namespace, instructions: Iterable[str]) -> None:
    """Raise InvalidInput for an instruction without a slider in --concept-sliders, before anything is rendered."""
    method = ConceptSlider(folder=args.concept_sliders)
    if method.folder and (args.baselines is None or CONCEPT_SLIDER in args.baselines):
        for instruction in instructions:
            method.slider_of(instruction)


def make_pie_setup(args: argparse.Namespace, number: int) -> PieSetup:
    """What `described_methods` names, loaded for process `number`, on a GPU of its own where there are several."""
    num_gpus = torch.cuda.device_count()
    device = f"cuda:{number % num_gpus}" if args.device in (None, "cuda") and num_gpus > 1 else args.device
    setup = make_setup(argparse.Namespace(**{**vars(args), "device": device, "baselines": args.baselines or []}))
    methods: dict[str, Method] = {OURS: ours, **setup.baselines}
    for name, runs in setup.ablations.items():
        methods |= zip(run_names(name, len(runs)), runs, strict=True)
    embedder = ClipEmbedder(args.clip, setup.pipe._execution_device) if args.clip else None
    return PieSetup(setup.pipe, methods, setup.rulers, embedder)
