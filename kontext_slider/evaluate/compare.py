"""Our slider, what it is made of, baselines and ablations on the same held-out edits.

Every edit is a synthetic scene that the model has never seen, with its ground truth at every strength. The sweep that
is measured is the source and the frames at strengths 1/N to 1 (paper, appendix A.6); the frame at strength 0 is
compared with what the codec alone makes of the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.base_edit import coded, edited_picture
from kontext_slider.evaluate.baselines import ours
from kontext_slider.evaluate.plots import plot_strips
from kontext_slider.evaluate.results import NUM_STEPS, STRENGTHS, MeasuredEdit, Result, check_frames, smoothness_of
from kontext_slider.evaluate.rows import CEILING, OURS, Rows, Setup, render_rows
from kontext_slider.evaluate.truth import score_beyond
from kontext_slider.metrics import Picture, to_image, trajectory
from kontext_slider.metrics.distances import Rulers, psnr
from kontext_slider.metrics.trajectory import edited_mask, right_object
from kontext_slider.world.cases import CHOOSING_SEEDS, Case, is_object_edit

NUM_LEVELS = 42  # of the truth, to read strengths from


@dataclass(frozen=True)
class Measures:
    """One method against the truth of one edit. Decibels are PSNR; everything else is a share, see
    `metrics.trajectory`."""

    calibration_error: float
    truth_psnr: float  # mean over strengths 1/N to 1; at 0 a method that returns the source has 99 dB
    full_psnr: float  # at strength 1
    leakage: float | None  # None where the edit has no outside
    zero_psnr_gap: float  # dB that strength 0 loses to the codec's own reconstruction of the source
    full_psnr_gap: float  # dB that strength 1 loses to the base model's edit, both against the truth
    right_object: float | None  # 1 or 0; None where the instruction names no object


@dataclass(frozen=True)
class Comparison:
    """All edits, and what their rows are. anchored: whether the model's own setting has the anchor. offered: edits that
    the model offers; where it names none, all. strips: the files with frames of some edits."""

    edits: list[MeasuredEdit]
    rows: Rows
    anchored: bool
    offered: frozenset[str]
    strips: Sequence[str] = ()

    def on_offered(self) -> list[MeasuredEdit]:
        """The edits that the model offers. None where their scenes may have chosen what it offers: then the figures
        would be tested on what chose them."""
        if any(edit.facts["seed"] in CHOOSING_SEEDS for edit in self.edits):
            return []
        return [edit for edit in self.edits if not self.offered or edit.facts["edit"] in self.offered]


@dataclass(frozen=True)
class Reference:
    """What the frames of one case are compared with."""

    case: Case
    levels: list[Picture]  # truths at NUM_LEVELS + 1 strengths
    zero: float  # dB of the codec on the source
    full: float  # dB of the base model's edit
    whole: Mapping[str, float]  # distance from the source to the full truth, by ruler


def measure_edit(setup: Setup, case: Case, seed: int, strip: Path | None = None) -> MeasuredEdit:
    """Render one edit by every method and measure it. strip: a file that gets the frames side by side."""
    pipe, image = setup.pipe, to_image(case.source)
    levels = [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)]
    zero = psnr(coded(pipe, case.source), case.source)
    full = psnr(edited_picture(pipe, image, case.instruction, seed), levels[-1])
    whole = {name: matrix[0, 1] for name, matrix in setup.rulers([case.source, levels[-1]]).items()}
    reference = Reference(case, levels, zero, full, whole)
    sweeps = render_rows(setup, image, case.instruction, seed)
    for row, frames in sweeps.items():
        check_frames(row, frames, case.instruction)
    sweeps[CEILING] = [np.clip(coded(pipe, truth), 0, 1) for truth in levels[:: NUM_LEVELS // NUM_STEPS]]
    results = {name: measure_sweep(reference, frames, setup.rulers) for name, frames in sweeps.items()}
    if strip:
        order = dict.fromkeys((OURS, CEILING, *sweeps))
        shown = {name: list(map(to_image, sweeps[name])) for name in order}
        plot_strips(shown, STRENGTHS, case.instruction, strip)
    (other,) = ours(pipe, image, case.held_out_instruction, (1.0,), seed)
    return MeasuredEdit(
        facts=facts_of(case, seed),
        results=results,
        phrasing_loss=psnr(sweeps[OURS][-1], levels[-1]) - psnr(other, levels[-1]),
        beyond=score_beyond(pipe, case, seed) if case.goes_on else None,
    )


def facts_of(case: Case, seed: int) -> dict[str, Any]:
    """What an edit is, in tables."""
    kind = "object" if is_object_edit(case.edit) else "whole picture"
    return {"edit": case.edit, "kind": kind, "instruction": case.instruction, "seed": seed}


def measure_sweep(reference: Reference, frames: Sequence[Picture], rulers: Rulers) -> Result:
    """Frames at STRENGTHS."""
    case, truths = reference.case, reference.levels[:: NUM_LEVELS // NUM_STEPS]
    matrices = rulers([case.source, *frames[1:]])
    decibels = [psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)]
    right = None
    if case.mask is not None:
        right = float(right_object(case.source, frames[-1], truths[-1], case.mask, case.others))
    measures = Measures(
        calibration_error=trajectory.calibration_error(frames, STRENGTHS, reference.levels),
        truth_psnr=float(np.mean(decibels[1:])),
        full_psnr=decibels[-1],
        leakage=trajectory.leakage(frames, edited_mask(case.source, truths)),
        zero_psnr_gap=reference.zero - psnr(frames[0], case.source),
        full_psnr_gap=reference.full - decibels[-1],
        right_object=right,
    )
    curves = {
        name: (matrix[0] / max(reference.whole[name], trajectory.TINY)).tolist() for name, matrix in matrices.items()
    }
    return Result(measures, smoothness_of(matrices), curves)
