"""Ablations: trained sliders of any kind, given as folders, and what can be said of one or of several training runs.

A difference between two sliders that were each trained once may be the seed of the training. So an interval is over
runs, and a single run makes no claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate.anchor import UnderAnchor
from kontext_slider.evaluate.compare import Comparison
from kontext_slider.evaluate.headline import psnr_of
from kontext_slider.evaluate.results import MeasuredEdit, rulers_of
from kontext_slider.evaluate.rows import CROSS_FADE
from kontext_slider.metrics.statistics import interval_over_runs, markdown
from kontext_slider.run_folder import read_run
from kontext_slider.variants import VARIANTS, load_variant, variant_method

RUN_FILE = "run.json"  # of the training, beside the slider or in the folder above it


def ablation_method(folder: Path) -> UnderAnchor:
    """The slider of a folder, run as it was trained: with the anchor where its run says `anchored`, without it where
    that says not; in one step where its `timesteps` are "one", else in those of the base model; and as the model has it
    where no run is noted.

    Raises CheckpointError for a folder without a slider, InvalidInput for a note that cannot be read."""
    notes = [note for note in (folder / RUN_FILE, folder.parent / RUN_FILE) if note.is_file()]
    run = read_run(notes[0]) if notes else {}
    anchored = run.get("anchored")
    on = anchored if isinstance(anchored, bool) else None
    in_one_step = run["timesteps"] == "one" if "timesteps" in run else None
    return UnderAnchor(variant_method(load_variant(folder)), on, in_one_step)


Score = Callable[[MeasuredEdit, str], float]  # (edit, row) -> a number


def run_means(edits: Sequence[MeasuredEdit], runs: Sequence[str], score: Score) -> list[float]:
    """The mean of a number over the edits, run by run."""
    return [float(np.mean([score(edit, run) for edit in edits])) for run in runs]


def scores_of(rulers: Sequence[str]) -> dict[str, Score]:
    """What is said of an ablation: head of the column -> number."""

    def smooth(ruler: str) -> Score:
        return lambda edit, run: edit.results[run].smoothness[ruler].delta_smooth

    return {
        "dB to the ground truth": psnr_of,
        "dB over the cross-fade": lambda edit, run: psnr_of(edit, run) - psnr_of(edit, CROSS_FADE),
        "calibration error": lambda edit, run: edit.results[run].measures.calibration_error,
        **{f"delta smooth, {ruler}": smooth(ruler) for ruler in rulers},
    }


def ablation_figures(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """By name: the number of runs, and by column the mean over runs, and its interval (None for one run)."""
    scores = scores_of(rulers_of(comparison.edits))
    found: dict[str, dict[str, Any]] = {}
    for name, runs in comparison.rows.ablations.items():
        values = {head: run_means(comparison.edits, runs, score) for head, score in scores.items()}
        means = {head: round(float(np.mean(each)), 4) for head, each in values.items()}
        found[name] = {"num_runs": len(runs), "anchor": anchor_of(comparison, name), "means": means, "intervals": None}
        if len(runs) > 1:
            found[name]["intervals"] = {head: interval_over_runs(each) for head, each in values.items()}
    return found


def ablation_section(comparison: Comparison) -> list[str]:
    """The parts of the report's section: none where there are no ablations."""
    figures = ablation_figures(comparison)
    if not figures:
        return []
    heads = list(scores_of(rulers_of(comparison.edits)))
    lines = [
        (name, runs_of(row), anchor_of(comparison, name), *(_cell(row, head) for head in heads))
        for name, row in figures.items()
    ]
    text = "Means over training runs, with their interval at 95 % over runs (Student's t). One run is no claim."
    known = [f"- {name}: {VARIANTS[name]}" for name in figures if name in VARIANTS]
    return ["## Ablations", text, markdown(("ablation", "runs", "anchor", *heads), lines), *known]


def runs_of(row: dict[str, Any]) -> str:
    return "one run, no claim" if row["num_runs"] == 1 else str(row["num_runs"])


def anchor_of(comparison: Comparison, name: str) -> str:
    """Whether an ablation's runs have the anchor, as a word."""
    words = {True: "yes", False: "no", None: "as the model"}
    return ", ".join(dict.fromkeys(words[comparison.rows.anchors[run]] for run in comparison.rows.ablations[name]))


def _cell(row: dict[str, Any], head: str) -> str:
    mean = f"{row['means'][head]:.3g}"
    if row["intervals"] is None:
        return mean
    low, high = row["intervals"][head]
    return f"{mean} ({low:.3g} to {high:.3g})"
