"""Our slider, baselines and ablations on the same held-out edits.

Every edit is a synthetic scene that the model has never seen, with its ground truth at every strength. The sweep that
is measured is the source and the frames at strengths 1/N to 1 (paper, appendix A.6); the frame at strength 0 is
compared with what the codec alone makes of the source. CEILING is no method: it is the truth itself, put through the
codec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from kontext_slider.base_edit import coded, edited_picture
from kontext_slider.evaluate.baselines import Method, ours
from kontext_slider.evaluate.truth import score_beyond
from kontext_slider.metrics import Picture, to_image, trajectory
from kontext_slider.metrics.distances import Distance, psnr
from kontext_slider.metrics.trajectory import Smoothness, edited_mask, right_object
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.threads import end_with_parent
from kontext_slider.world.cases import HELD_OUT_SEED, Case, held_out_case

NUM_STEPS = 6  # N of the paper
NUM_LEVELS = 42  # of the truth, to read strengths from
STRENGTHS = tuple(k / NUM_STEPS for k in range(NUM_STEPS + 1))
OURS, CEILING = "ours", "truth-through-codec"


@dataclass(frozen=True)
class Setup:
    """The model under test and what is measured on it."""

    pipe: KontextSliderPipeline
    distance: Distance
    distance_name: str
    baselines: Mapping[str, Method] = field(default_factory=dict)
    ablations: Mapping[str, Method] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures(Smoothness):
    """One method on one edit. Decibels are PSNR; everything else is a share, see `metrics.trajectory`."""

    calibration_error: float
    truth_psnr: float  # mean over strengths 1/N to 1; at 0 a method that returns the source has 99 dB
    full_psnr: float  # at strength 1
    leakage: float | None  # None where the edit has no outside
    zero_psnr_gap: float  # dB that strength 0 loses to the codec's own reconstruction of the source
    full_psnr_gap: float  # dB that strength 1 loses to the base model's edit, both against the truth
    right_object: float | None  # 1 or 0; None where the instruction names no object


@dataclass(frozen=True)
class Result:
    """One method on one edit."""

    measures: Smoothness
    curves: dict[str, list[float]]  # by name, at STRENGTHS; "distance": to the source, as a share of the whole
    frames: list[Image.Image] = field(default_factory=list)  # at STRENGTHS, where they were to be kept


@dataclass(frozen=True)
class MeasuredEdit:
    """One edit by all methods."""

    facts: dict[str, Any]  # for its rows in a table: "edit", "instruction", "seed"
    results: dict[str, Result]  # by method, OURS first
    phrasing_loss: float = (
        0.0  # dB that words which training never saw cost ours at strength 1; below 0 they are better
    )
    beyond: dict[str, list[float]] | None = None  # see `score_beyond`


def measures_of(edits: Sequence[MeasuredEdit], *names: str) -> dict[str, list[Any]]:
    """The measures of some methods, edit by edit in one order; of all where none is named."""
    names = names or tuple(edits[0].results)
    return {name: [edit.results[name].measures for edit in edits] for name in names}


@dataclass(frozen=True)
class Comparison:
    """All edits, and what is called what in tables."""

    edits: list[MeasuredEdit]
    baselines: tuple[str, ...]
    ablations: tuple[str, ...]
    distance: str
    offered: frozenset[str]  # edits that the model offers; where it names none, all

    def measures(self, *names: str, offered: bool = False) -> dict[str, list[Measures]]:
        """Of some methods, on all edits or on those that the model offers."""
        is_all = not (offered and self.offered)
        return measures_of([edit for edit in self.edits if is_all or edit.facts["edit"] in self.offered], *names)


def compare_all(
    make: Callable[[], Setup], num_edits: int, seeds: Sequence[int], num_processes: int = 1, num_strips: int = 0
) -> Comparison:
    """All methods on `num_edits` held-out edits for each seed, which draws scenes and noise.

    Args:
        make: makes the setup; with several processes each calls it for itself, so it must be picklable.
        num_processes: this one and others, which share the threads: a small model's matrices are too small for many.
        num_strips: so many edits of the first seed, evenly spread, keep their frames.
    """
    num_kept = min(num_strips, num_edits)
    kept = {k * num_edits // num_kept for k in range(num_kept)}
    tasks = [(seed, number, seed == seeds[0] and number in kept) for seed in seeds for number in range(num_edits)]
    own_threads = torch.get_num_threads()
    work = partial(compare_some, make, max(1, own_threads // num_processes))
    shares = [tasks[k::num_processes] for k in range(num_processes)]
    if num_processes == 1:
        return work(tasks)
    with ProcessPoolExecutor(num_processes - 1, get_context("spawn"), end_with_parent) as pool:
        others = [pool.submit(work, share) for share in shares[1:]]
        done = [work(shares[0]), *(other.result() for other in others)]
    torch.set_num_threads(own_threads)
    edits = [done[n % num_processes].edits[n // num_processes] for n in range(len(tasks))]
    return replace(done[0], edits=edits)


def compare_some(make: Callable[[], Setup], num_threads: int, tasks: Sequence[tuple[int, int, bool]]) -> Comparison:
    """`compare_all` of some (seed, number of the edit, whether its frames are kept), with so many threads."""
    torch.set_num_threads(num_threads)
    setup = make()
    setup.pipe.set_progress_bar_config(disable=True)
    edits = []
    for seed, number, keep in tqdm(tasks, unit="edit"):
        case = held_out_case(number, setup.pipe.defaults.size, HELD_OUT_SEED + seed)
        edits.append(measure_edit(setup, case, seed, keep))
    names = tuple(setup.baselines), tuple(setup.ablations)
    return Comparison(edits, *names, setup.distance_name, frozenset(setup.pipe.known_instructions))


@dataclass(frozen=True)
class Reference:
    """What the frames of one case are compared with."""

    case: Case
    levels: list[Picture]  # truths at NUM_LEVELS + 1 strengths
    zero: float  # dB of the codec on the source
    full: float  # dB of the base model's edit
    whole: float  # distance from the source to the full truth


def measure_edit(setup: Setup, case: Case, seed: int, keep: bool = False) -> MeasuredEdit:
    """Render one edit by every method and measure it."""
    pipe, image = setup.pipe, to_image(case.source)
    levels = [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)]
    zero = psnr(coded(pipe, case.source), case.source)
    full = psnr(edited_picture(pipe, image, case.instruction, seed), levels[-1])
    reference = Reference(case, levels, zero, full, setup.distance([case.source, levels[-1]])[0, 1])
    methods = {OURS: ours, **setup.baselines, **setup.ablations}
    sweeps = {name: method(pipe, image, case.instruction, STRENGTHS, seed) for name, method in methods.items()}
    sweeps[CEILING] = [np.clip(coded(pipe, truth), 0, 1) for truth in levels[:: NUM_LEVELS // NUM_STEPS]]
    results = {name: measure_sweep(reference, frames, setup.distance, keep) for name, frames in sweeps.items()}
    (other,) = ours(pipe, image, case.held_out_instruction, (1.0,), seed)
    return MeasuredEdit(
        facts={"edit": case.edit, "instruction": case.instruction, "seed": seed},
        results=results,
        phrasing_loss=psnr(sweeps[OURS][-1], levels[-1]) - psnr(other, levels[-1]),
        beyond=score_beyond(pipe, case, seed) if case.goes_on else None,
    )


def measure_sweep(reference: Reference, frames: Sequence[Picture], distance: Distance, keep: bool) -> Result:
    """Frames at STRENGTHS."""
    case, truths = reference.case, reference.levels[:: NUM_LEVELS // NUM_STEPS]
    matrix = distance([case.source, *frames[1:]])
    decibels = [psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)]
    right = None
    if case.mask is not None:
        right = float(right_object(case.source, frames[-1], truths[-1], case.mask, case.others))
    measures = Measures(
        **asdict(trajectory.smoothness(matrix)),
        calibration_error=trajectory.calibration_error(frames, STRENGTHS, reference.levels),
        truth_psnr=float(np.mean(decibels[1:])),
        full_psnr=decibels[-1],
        leakage=trajectory.leakage(frames, edited_mask(case.source, truths)),
        zero_psnr_gap=reference.zero - psnr(frames[0], case.source),
        full_psnr_gap=reference.full - decibels[-1],
        right_object=right,
    )
    curve = (matrix[0] / max(reference.whole, trajectory.TINY)).tolist()
    return Result(measures, {"distance": curve}, list(map(to_image, frames)) if keep else [])
