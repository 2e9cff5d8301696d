"""What a comparison is written as: `report.md` with its tables, `edits.csv`, one JSON object, curves and strips."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate import beyond
from kontext_slider.evaluate.compare import CEILING, STRENGTHS, Measures, Result
from kontext_slider.evaluate.plots import line_plot, strips
from kontext_slider.evaluate.rivals import TRICKS
from kontext_slider.evaluate.truth import family
from kontext_slider.metrics.statistics import cell, half_widths, means, paired, table
from kontext_slider.train.slider.ablations import ABLATIONS

OURS = "ours"
NOT_ANCHORED = "not-anchored"
NOTES = {**ABLATIONS, NOT_ANCHORED: "ours, strength 0 being what the model makes of it and not the source itself."}
LEGEND = """
- delta smooth: the largest triangle deficit of a sweep. A cross-fade is straight by construction and has less than the
  truth has.
- delta first: the largest step's share of the way. Linearity error: the way gone against the strength. Monotonicity:
  rank correlation of strength and way.
- calibration error: the strength asked for against the strength that a frame looks like, by the drawn truth.
- truth psnr: dB to the truth at strengths above 0; full psnr: at 1.
- leakage: change outside the edit as a share of the change inside.
- zero and full psnr gap: dB lost at 0 to the codec's own source, and at 1 to the base model's edit; below 0 is won.
- right object: the share of the edits of one object that changed it and no other.
""".strip()


@dataclass(frozen=True)
class Comparison:
    """All results, edit by edit in one order for every method, and what they are called in tables."""

    results: dict[str, list[Result]]  # OURS, rivals, ablations, CEILING
    rivals: tuple[str, ...]
    ablations: tuple[str, ...]
    distances: tuple[str, ...]  # the first is that of the measures
    phrasing_losses: tuple[float, ...]  # dB per edit, see `selection.held_out_losses`
    beyond: dict[str, dict[float, float]]  # dB beyond strength 1, of the edits that go on; see `beyond.score_beyond`
    offered: frozenset[str]  # edits that the model is said to be able to do; none of them: all

    def measures(self, *names: str, offered: bool = False) -> dict[str, list[Measures]]:
        """Of some methods, on all edits or on those that the model offers."""
        chosen = self.offered if offered and self.offered else {row.case.edit for row in self.results[OURS]}
        return {name: [row.measures for row in self.results[name] if row.case.edit in chosen] for name in names}


def figures(comparison: Comparison) -> dict[str, Any]:
    """The means: ours flat, then per rival and per ablation; `intervals` are half widths at 95 % of ours."""
    ours = comparison.measures(OURS)[OURS]
    return {
        **means(ours),
        "phrasing_gap": round(float(np.mean(comparison.phrasing_losses)), 4),
        **{f"full_psnr_{name}": mean for name, mean in full_edits(comparison.results[OURS]).items()},
        "distance": comparison.distances[0],
        "num_edits": len(ours),
        "intervals": half_widths(ours),
        "rivals": _all_means(comparison, comparison.rivals),
        "ablations": _all_means(comparison, comparison.ablations),
        "offered": means(comparison.measures(OURS, offered=True)[OURS]),
        "beyond": comparison.beyond,
        "ceiling": means(comparison.measures(CEILING)[CEILING]),
    }


def full_edits(results: Sequence[Result]) -> dict[str, float]:
    """Mean dB at strength 1 of edits of one object ("local") and of the whole scene ("global")."""
    groups: dict[str, list[float]] = {}
    for result in results:
        groups.setdefault("global" if result.case.mask is None else "local", []).append(result.measures.full_psnr)
    return {name: round(float(np.mean(values)), 2) for name, values in sorted(groups.items())}


def write_report(comparison: Comparison, folder: Path, command: str) -> None:
    """Everything into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    names = write_plots(comparison, folder)
    write_rows(folder / "edits.csv", comparison.results)
    (folder / "report.md").write_text(report(comparison, command, names), encoding="utf-8")


def report(comparison: Comparison, command: str, plots: Sequence[str]) -> str:
    """The Markdown page. `plots`: file names beside it."""
    shown = (*comparison.rivals, CEILING)
    tricks = [name for name in comparison.rivals if name in TRICKS]
    parts = ["# Sliders compared", f"`{command}`", _preface(comparison)]
    parts += [LEGEND, "## Rivals", table(comparison.measures(OURS, *shown)), _versus(comparison)]
    parts += _of_offered(comparison, shown)
    if comparison.ablations:
        parts += ["## Ablations", table(comparison.measures(OURS, *comparison.ablations)), *_notes(comparison)]
    if tricks:
        parts += ["## Inference-time tricks", table(comparison.measures(OURS, *tricks))]
    for name in comparison.distances[1:]:
        rows = {method: [row.others[name] for row in rows] for method, rows in comparison.results.items()}
        parts += [f"## The same frames by the distance {name}", table(rows)]
    if comparison.beyond:
        parts += ["## Ours beyond strength 1", beyond.table(comparison.beyond)]
    parts += ["## Ours, edit by edit", _by_edit(comparison.results[OURS])]
    parts += ["## Plots", *(f"![{name}]({name})" for name in plots)]
    return "\n\n".join(parts) + "\n"


def write_plots(comparison: Comparison, folder: Path) -> list[str]:
    """The curves and the strips of the cases whose frames were kept; returns the file names."""
    title = f"Distance to the source ({comparison.distances[0]}), as a share of the full truth's"
    curves = {name: np.mean([row.curve for row in rows], axis=0) for name, rows in comparison.results.items()}
    line_plot(curves, title, {OURS: 4, CEILING: 1}).save(folder / "distance.png")
    names = ["distance.png"]
    for number, result in enumerate(comparison.results[OURS]):
        if result.frames is None:
            continue
        order = dict.fromkeys((OURS, CEILING, *comparison.results))
        rows = {name: comparison.results[name][number].frames or () for name in order}
        names.append(f"strip-{number}-{result.case.edit}.jpg")
        strips(rows, STRENGTHS, result.case.instruction).save(folder / names[-1], quality=85)
    return names


def write_rows(path: Path, results: Mapping[str, Sequence[Result]]) -> None:
    """Every edit's measures by every method, as CSV."""
    rows = [
        {"method": method, "edit": result.case.edit, "instruction": result.case.instruction, "seed": result.seed}
        | asdict(result.measures)
        | {f"distance_{strength:.2f}": value for strength, value in zip(STRENGTHS, result.curve, strict=True)}
        for method, measures in results.items()
        for result in measures
    ]
    write_csv(path, rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same columns."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _preface(comparison: Comparison) -> str:
    ours = comparison.results[OURS]
    full = " and ".join(f"{value:.1f} dB for {name} edits" for name, value in full_edits(ours).items())
    seeds = sorted({result.seed for result in ours})
    return (
        f"{len(ours)} held-out edits, seeds {', '.join(map(str, seeds))}; means with half the width of their bootstrap "
        f"intervals at 95 %. Smoothness is measured by the distance {comparison.distances[0]}. "
        f"`{CEILING}` is no method but what a perfect one could reach behind this codec. "
        f"Ours at full strength: {full}; words never trained on cost {cell(np.array(comparison.phrasing_losses))} dB."
    )


def _versus(comparison: Comparison) -> str:
    """Every other method minus ours, edit by edit."""
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr")
    results = comparison.measures(*comparison.results)
    lines = ["Minus ours, edit by edit (what ours is ahead in: errors above 0, truth psnr below):", ""]
    lines += ["| method | " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * 5 + "|"]
    for method in (*comparison.rivals, *comparison.ablations):
        differences = [paired(results[OURS], results[method], name) for name in names]
        lines.append(f"| {method} | " + " | ".join(differences) + " |")
    return "\n".join(lines)


def _of_offered(comparison: Comparison, shown: Sequence[str]) -> list[str]:
    """The table of rivals again, of the edits that the model offers, where those are not all."""
    measures = comparison.measures(OURS, *shown, offered=True)
    count, total = len(measures[OURS]), len(comparison.results[OURS])
    if count in (0, total):
        return []
    note = f"The other {total - count} are of kinds that came out too weak in training: the app says so when asked."
    return [f"## Rivals, on the {count} edits that the model offers", note, table(measures)]


def _notes(comparison: Comparison) -> list[str]:
    """What the ablations are, as one list, of those that have a name of ours."""
    lines = [f"- {name}: {NOTES[name]}" for name in comparison.ablations if name in NOTES]
    return ["\n".join(lines)] if lines else []


def _by_edit(results: Sequence[Result]) -> str:
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr", "full_psnr", "full_psnr_gap")
    groups: dict[str, list[Measures]] = {}
    for result in results:
        groups.setdefault(family(result.case.edit), []).append(result.measures)
    return table(groups, (*names, "right_object")).replace("| method |", "| edit |")


def _all_means(comparison: Comparison, names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: means(measures) for name, measures in comparison.measures(*names).items()}
