"""Our slider and its rivals on the same held-out edits: one row of measures per method and edit, means with intervals.

Every edit is a scene the model has never seen, drawn from `seed`, with a truth at every strength. The sweep that is
measured is the source and the frames at strengths 1/N to 1 (paper, appendix A.6); the frame at strength 0 is compared
with what the codec alone makes of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image
from tqdm import tqdm

from kontext_slider.evaluate import trajectory
from kontext_slider.evaluate.distance import Distance
from kontext_slider.evaluate.rivals import Method, base_edit
from kontext_slider.evaluate.truth import Case, coded, psnr, scene_cases
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.pocket.edits import EDITS
from kontext_slider.train.pocket.world import Picture

NUM_STEPS = 6  # N of the paper
NUM_LEVELS = 42  # of the truth, to read strengths from
STRENGTHS = tuple(k / NUM_STEPS for k in range(NUM_STEPS + 1))


@dataclass(frozen=True)
class Measures:
    """One method on one edit. Decibels are PSNR; everything else is a share, see `evaluate.trajectory`."""

    delta_smooth: float
    delta_first: float
    linearity_error: float
    monotonicity: float
    calibration_error: float
    truth_psnr: float
    leakage: float | None  # None where the edit has no outside
    zero_psnr_gap: float  # dB that strength 0 loses to the codec's own reconstruction of the source
    full_psnr_gap: float  # dB that strength 1 loses to the base model's edit, both against the truth


def draw_cases(num_edits: int, size: int, seed: int) -> list[Case]:
    """`num_edits` held-out cases, every edit of the world in turn."""
    per_edit = -(-num_edits // len(EDITS))
    by_edit = list(scene_cases(per_edit, size, seed))
    return [by_edit[edit * per_edit + k] for k in range(per_edit) for edit in range(len(EDITS))][:num_edits]


def measure_case(
    pipe: KontextSliderPipeline, case: Case, methods: dict[str, Method], distance: Distance, seed: int
) -> dict[str, Measures]:
    """Render one edit by every method and measure it."""
    image = Image.fromarray(np.rint(case.source * 255).astype(np.uint8))
    scale = [case.truth(level / NUM_LEVELS) for level in range(NUM_LEVELS + 1)]
    full = psnr(base_edit(pipe, image, case.instruction, seed), scale[-1])
    zero = psnr(coded(pipe, case.source), case.source)
    rows = {}
    for name, method in methods.items():
        frames = method(pipe, image, case.instruction, STRENGTHS, seed)
        rows[name] = measure_frames(case.source, frames, scale, distance, zero, full)
    return rows


def measure_frames(
    source: Picture, frames: Sequence[Picture], scale: Sequence[Picture], distance: Distance, zero: float, full: float
) -> Measures:
    """Measures of frames at STRENGTHS. `scale`: truths at NUM_LEVELS + 1 strengths. `zero`, `full`: dB of the codec
    on the source and of the base model's edit."""
    truths = scale[:: NUM_LEVELS // NUM_STEPS]
    sweep = distance([source, *frames[1:]])
    return Measures(
        delta_smooth=trajectory.second_order(sweep),
        delta_first=trajectory.first_order(sweep),
        linearity_error=trajectory.linearity_error(sweep),
        monotonicity=trajectory.monotonicity(sweep),
        calibration_error=trajectory.calibration_error(frames, STRENGTHS, scale),
        truth_psnr=float(np.mean([psnr(frame, truth) for frame, truth in zip(frames, truths, strict=True)])),
        leakage=trajectory.leakage(frames, trajectory.edited_mask(source, truths)),
        zero_psnr_gap=zero - psnr(frames[0], source),
        full_psnr_gap=full - psnr(frames[-1], truths[-1]),
    )


def compare(
    pipe: KontextSliderPipeline, cases: Iterable[Case], methods: dict[str, Method], distance: Distance, seed: int
) -> dict[str, list[Measures]]:
    """All methods on all cases."""
    pipe.set_progress_bar_config(disable=True)
    rows = [measure_case(pipe, case, methods, distance, seed) for case in tqdm(list(cases), unit="edit")]
    return {name: [row[name] for row in rows] for name in methods}


def means(measures: Sequence[Measures]) -> dict[str, float]:
    """The mean of every measure over the edits that have it."""
    columns = {field.name: _column(measures, field.name) for field in fields(Measures)}
    return {name: round(float(values.mean()), 4) for name, values in columns.items() if len(values)}


def interval(values: np.ndarray, num_draws: int = 2000) -> tuple[float, float]:
    """Bootstrap interval of the mean at 95 %."""
    rng = np.random.default_rng(0)
    draws = rng.choice(values, (num_draws, len(values))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def table(results: dict[str, list[Measures]]) -> str:
    """Markdown: one row per method, mean and half the width of its 95 % interval."""
    names = [field.name for field in fields(Measures)]
    lines = ["| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method, measures in results.items():
        lines.append(f"| {method} | " + " | ".join(_cell(_column(measures, name)) for name in names) + " |")
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    low, high = interval(values)
    return f"{values.mean():.3g} ± {(high - low) / 2:.2g}"


def _column(measures: Sequence[Measures], name: str) -> np.ndarray:
    return np.array([value for row in measures if (value := getattr(row, name)) is not None])
