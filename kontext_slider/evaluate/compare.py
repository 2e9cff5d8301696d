"""Our slider and its rivals on the same held-out edits: one row of measures per method and edit.

Every edit is a scene the model has never seen, drawn from `seed`, with a truth at every strength. The sweep that is
measured is the source and the frames at strengths 1/N to 1 (paper, appendix A.6); the frame at strength 0 is compared
with what the codec alone makes of the source. CEILING is no method: it is the truth itself, put through the codec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from kontext_slider.encoding import coded
from kontext_slider.evaluate.base_run import Method, base_edit
from kontext_slider.evaluate.selection import right_object
from kontext_slider.metrics import to_image, trajectory
from kontext_slider.metrics.distances import Distance, Matrix, psnr
from kontext_slider.metrics.trajectory import Smoothness
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.cases import Case
from kontext_slider.world.paint import Picture

NUM_STEPS = 6  # N of the paper
NUM_LEVELS = 42  # of the truth, to read strengths from
STRENGTHS = tuple(k / NUM_STEPS for k in range(NUM_STEPS + 1))
CEILING = "truth-through-codec"


@dataclass(frozen=True)
class Measures(Smoothness):
    """One method on one edit. Decibels are PSNR; everything else is a share, see `metrics.trajectory`."""

    calibration_error: float
    truth_psnr: float  # mean over strengths 1/N to 1; what returns the source itself at 0 would drown the rest
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


@dataclass(frozen=True)
class Ruler:
    """What the frames of one case are held against."""

    case: Case
    scale: list[Picture]  # truths at NUM_LEVELS + 1 strengths
    zero: float  # dB of the codec on the source
    full: float  # dB of the base model's edit

    @property
    def truths(self) -> list[Picture]:
        """At STRENGTHS."""
        return self.scale[:: NUM_LEVELS // NUM_STEPS]


def compare(
    pipe: KontextSliderPipeline,
    cases: Sequence[Case],
    methods: Mapping[str, Method],
    distances: Mapping[str, Distance],
    seed: int,
    keep: frozenset[int] = frozenset(),
) -> dict[str, list[Result]]:
    """All methods, and CEILING, on all cases.

    Args:
        distances: the first is the one that Measures are made with.
        seed: draws the noise, the same for all methods.
        keep: numbers of the cases whose frames are kept.
    """
    pipe.set_progress_bar_config(disable=True)
    results: dict[str, list[Result]] = {name: [] for name in (*methods, CEILING)}
    for number, case in enumerate(tqdm(cases, unit="edit")):
        for name, result in measure_case(pipe, case, methods, distances, seed, number in keep).items():
            results[name].append(result)
    return results


def measure_case(
    pipe: KontextSliderPipeline,
    case: Case,
    methods: Mapping[str, Method],
    distances: Mapping[str, Distance],
    seed: int,
    keep: bool = False,
) -> dict[str, Result]:
    """Render one edit by every method and measure it."""
    ruler, image = make_ruler(pipe, case, seed), to_image(case.source)
    sweeps = {name: method(pipe, image, case.instruction, STRENGTHS, seed) for name, method in methods.items()}
    sweeps[CEILING] = [np.clip(coded(pipe, truth), 0, 1) for truth in ruler.truths]
    way = next(iter(distances.values()))([case.source, ruler.scale[-1]])[0, 1]
    return {name: measure_sweep(ruler, frames, distances, float(way), seed, keep) for name, frames in sweeps.items()}


def make_ruler(pipe: KontextSliderPipeline, case: Case, seed: int) -> Ruler:
    """The truth at many strengths, and how near codec and base model come to it."""
    scale = [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)]
    full = psnr(base_edit(pipe, to_image(case.source), case.instruction, seed), scale[-1])
    return Ruler(case, scale, psnr(coded(pipe, case.source), case.source), full)


def measure_sweep(
    ruler: Ruler, frames: Sequence[Picture], distances: Mapping[str, Distance], way: float, seed: int, keep: bool
) -> Result:
    """Frames at STRENGTHS by every distance. `way`: from the source to the full truth, by the first of them."""
    pictures = [ruler.case.source, *frames[1:]]
    first, *more = [(name, distance(pictures)) for name, distance in distances.items()]
    return Result(
        case=ruler.case,
        seed=seed,
        measures=measure_frames(ruler, frames, first[1]),
        others={name: trajectory.smoothness(matrix) for name, matrix in more},
        curve=tuple((first[1][0] / max(way, trajectory.TINY)).tolist()),
        frames=tuple(map(to_image, frames)) if keep else None,
    )


def measure_frames(ruler: Ruler, frames: Sequence[Picture], matrix: Matrix) -> Measures:
    """Measures of frames at STRENGTHS. `matrix`: distances between the source and the frames from 1/N to 1."""
    case, truths = ruler.case, ruler.truths
    decibels = [psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)]
    hit = None
    if case.mask is not None:
        hit = float(right_object(case.source, frames[-1], truths[-1], case.mask, case.others))
    return Measures(
        **asdict(trajectory.smoothness(matrix)),
        calibration_error=trajectory.calibration_error(frames, STRENGTHS, ruler.scale),
        truth_psnr=float(np.mean(decibels[1:])),
        full_psnr=decibels[-1],
        leakage=trajectory.leakage(frames, trajectory.edited_mask(case.source, truths)),
        zero_psnr_gap=ruler.zero - psnr(frames[0], case.source),
        full_psnr_gap=ruler.full - decibels[-1],
        right_object=hit,
    )
