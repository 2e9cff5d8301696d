"""Our slider, baselines and ablations on the same held-out edits: one row of measures per method and edit.

Every edit is a synthetic scene that the model has never seen, drawn from `seed`, with its ground truth at every
strength. The sweep that is measured is the source and the frames at strengths 1/N to 1 (paper, appendix A.6); the frame
at strength 0 is compared with what the codec alone makes of the source. CEILING is no method: it is the truth itself,
put through the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from kontext_slider.base_edit import coded, edited_picture
from kontext_slider.evaluate.baselines import Method, ours
from kontext_slider.evaluate.truth import score_beyond
from kontext_slider.metrics import Picture, to_image, trajectory
from kontext_slider.metrics.distances import Distance, Matrix, psnr
from kontext_slider.metrics.trajectory import Smoothness, edited_mask, right_object
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.threads import end_with_parent
from kontext_slider.world.cases import HELD_OUT_SEED, Case, draw_cases

NUM_STEPS = 6  # N of the paper
NUM_LEVELS = 42  # of the truth, to read strengths from
STRENGTHS = tuple(k / NUM_STEPS for k in range(NUM_STEPS + 1))
OURS, CEILING = "ours", "truth-through-codec"


@dataclass(frozen=True)
class Setup:
    """The model under test and what is measured on it. The first distance is the one that Measures are made with."""

    pipe: KontextSliderPipeline
    distances: Mapping[str, Distance]
    baselines: Mapping[str, Method] = field(default_factory=dict)
    ablations: Mapping[str, Method] = field(default_factory=dict)

    @property
    def methods(self) -> dict[str, Method]:
        """Ours first."""
        return {OURS: ours, **self.baselines, **self.ablations}


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
    """One method on one edit, and what its plots are drawn from."""

    case: Case
    seed: int
    measures: Measures
    others: dict[str, Smoothness]  # by the distances after the first
    curve: tuple[float, ...]  # distance to the source of y_0..y_N, as a share of the full truth's
    frames: tuple[Image.Image, ...] | None  # at STRENGTHS, where they were to be kept


Results = dict[str, list[Result]]  # by method, in the order of the cases


@dataclass(frozen=True)
class Comparison:
    """All results, edit by edit in one order for every method, and what they are called in tables."""

    results: Results  # OURS, baselines, ablations, CEILING
    baselines: tuple[str, ...]
    ablations: tuple[str, ...]
    distances: tuple[str, ...]  # the first is that of the measures
    phrasing_losses: tuple[float, ...]  # dB per edit, see `held_out_losses`
    beyond: dict[str, dict[float, float]]  # dB beyond strength 1, of the edits that go on; see `score_beyond`
    offered: frozenset[str]  # edits that the model offers; where it names none, all

    def measures(self, *names: str, offered: bool = False) -> dict[str, list[Measures]]:
        """Of some methods, on all edits or on those that the model offers."""
        chosen = self.offered if offered and self.offered else {row.case.edit for row in self.results[OURS]}
        return {name: [row.measures for row in self.results[name] if row.case.edit in chosen] for name in names}


@dataclass(frozen=True)
class Reference:
    """What the frames of one case are compared with."""

    case: Case
    levels: list[Picture]  # truths at NUM_LEVELS + 1 strengths
    zero: float  # dB of the codec on the source
    full: float  # dB of the base model's edit

    @property
    def truths(self) -> list[Picture]:
        """At STRENGTHS."""
        return self.levels[:: NUM_LEVELS // NUM_STEPS]


def compare_all(
    make: Callable[[], Setup], num_edits: int, seeds: Sequence[int], num_processes: int = 1, num_strips: int = 0
) -> Comparison:
    """All methods on `num_edits` held-out edits for each seed.

    Args:
        make: makes the setup; with several processes each calls it for itself, so it must be picklable.
        num_strips: so many edits of the first seed, evenly spread, keep their frames.
    """
    setup = make()
    results: Results = {name: [] for name in (*setup.methods, CEILING)}
    losses: list[float] = []
    for seed in seeds:
        keep = spread(num_strips, num_edits) if seed == seeds[0] else frozenset()
        share = partial(compare_share, num_edits=num_edits, seed=seed, keep=keep)
        found = share(setup) if num_processes == 1 else _in_processes(make, share, num_processes, num_edits)
        for name, rows in found.items():
            results[name] += rows
        seen = [row.measures.full_psnr for row in found[OURS]]
        other_words = draw_cases(num_edits, setup.pipe.defaults.size, HELD_OUT_SEED + seed, held_out=True)
        losses += held_out_losses(setup.pipe, ours, seen, other_words, seed)
    going_on = [row.case for row in results[OURS] if row.case.goes_on]
    return Comparison(
        results=results,
        baselines=tuple(setup.baselines),
        ablations=tuple(setup.ablations),
        distances=tuple(setup.distances),
        phrasing_losses=tuple(losses),
        beyond=score_beyond(setup.pipe, going_on, seeds[0]) if going_on else {},
        offered=frozenset(setup.pipe.known_instructions),
    )


def spread(num: int, count: int) -> frozenset[int]:
    """At most `num` of the numbers below `count`, evenly."""
    num = min(num, count)
    return frozenset(k * count // num for k in range(num)) if num > 0 else frozenset()


def compare_share(
    setup: Setup, num_edits: int, seed: int, keep: frozenset[int], first: int = 0, step: int = 1
) -> Results:
    """All methods, and CEILING, on every `step`-th held-out edit from number `first` on.

    Args:
        seed: draws scenes, and the noise, the same for all methods.
        keep: numbers of the edits whose frames are kept.
    """
    setup.pipe.set_progress_bar_config(disable=True)
    cases = draw_cases(num_edits, setup.pipe.defaults.size, HELD_OUT_SEED + seed)
    results: Results = {name: [] for name in (*setup.methods, CEILING)}
    for number in tqdm(range(num_edits)[first::step], unit="edit"):
        for name, result in measure_case(setup, cases[number], seed, number in keep).items():
            results[name].append(result)
    return results


def _in_processes(make: Callable[[], Setup], share: partial[Results], num_processes: int, num_edits: int) -> Results:
    """The edits shared out among processes, each with its own model and share of the threads: a small model's matrices
    are too small for many threads, and two processes of one thread do more than one of two."""
    work = partial(_share_alone, make, share, max(1, torch.get_num_threads() // num_processes), num_processes)
    with ProcessPoolExecutor(num_processes, get_context("spawn"), end_with_parent) as pool:
        shares = list(pool.map(work, range(num_processes)))
    return {name: [shares[n % num_processes][name][n // num_processes] for n in range(num_edits)] for name in shares[0]}


def _share_alone(
    make: Callable[[], Setup], share: partial[Results], num_threads: int, num_processes: int, number: int
) -> Results:
    torch.set_num_threads(num_threads)
    return share(make(), first=number, step=num_processes)


def measure_case(setup: Setup, case: Case, seed: int, keep: bool = False) -> dict[str, Result]:
    """Render one edit by every method and measure it."""
    pipe, image = setup.pipe, to_image(case.source)
    reference = make_reference(pipe, case, seed)
    sweeps = {name: method(pipe, image, case.instruction, STRENGTHS, seed) for name, method in setup.methods.items()}
    sweeps[CEILING] = [np.clip(coded(pipe, truth), 0, 1) for truth in reference.truths]
    whole = next(iter(setup.distances.values()))([case.source, reference.levels[-1]])[0, 1]
    return {
        name: measure_sweep(reference, frames, setup.distances, float(whole), seed, keep)
        for name, frames in sweeps.items()
    }


def make_reference(pipe: KontextSliderPipeline, case: Case, seed: int) -> Reference:
    """The truth at many strengths, and how near codec and base model come to it."""
    levels = [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)]
    full = psnr(edited_picture(pipe, to_image(case.source), case.instruction, seed), levels[-1])
    return Reference(case, levels, psnr(coded(pipe, case.source), case.source), full)


def measure_sweep(
    reference: Reference,
    frames: Sequence[Picture],
    distances: Mapping[str, Distance],
    whole: float,
    seed: int,
    keep: bool,
) -> Result:
    """Frames at STRENGTHS by every distance. `whole`: from the source to the full truth, by the first of them."""
    pictures = [reference.case.source, *frames[1:]]
    (_, matrix), *more = [(name, distance(pictures)) for name, distance in distances.items()]
    return Result(
        case=reference.case,
        seed=seed,
        measures=measure_frames(reference, frames, matrix),
        others={name: trajectory.smoothness(other) for name, other in more},
        curve=tuple((matrix[0] / max(whole, trajectory.TINY)).tolist()),
        frames=tuple(map(to_image, frames)) if keep else None,
    )


def measure_frames(reference: Reference, frames: Sequence[Picture], matrix: Matrix) -> Measures:
    """Measures of frames at STRENGTHS. `matrix`: distances between the source and the frames from 1/N to 1."""
    case, truths = reference.case, reference.truths
    decibels = [psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)]
    right = None
    if case.mask is not None:
        right = float(right_object(case.source, frames[-1], truths[-1], case.mask, case.others))
    return Measures(
        **asdict(trajectory.smoothness(matrix)),
        calibration_error=trajectory.calibration_error(frames, STRENGTHS, reference.levels),
        truth_psnr=float(np.mean(decibels[1:])),
        full_psnr=decibels[-1],
        leakage=trajectory.leakage(frames, edited_mask(case.source, truths)),
        zero_psnr_gap=reference.zero - psnr(frames[0], case.source),
        full_psnr_gap=reference.full - decibels[-1],
        right_object=right,
    )


def held_out_losses(
    pipe: KontextSliderPipeline, method: Method, seen: Sequence[float], held_out: Sequence[Case], seed: int
) -> list[float]:
    """What words that training never saw cost at full strength, dB per case; 0 or less is no loss.

    Args:
        seen: dB of the same scenes' full edits by words of the training.
        held_out: the scenes with other words.
    """
    losses = []
    for decibels, case in zip(seen, held_out, strict=True):
        (frame,) = method(pipe, to_image(case.source), case.instruction, (1.0,), seed)
        losses.append(decibels - psnr(frame, case.truth(1.0)))
    return losses
