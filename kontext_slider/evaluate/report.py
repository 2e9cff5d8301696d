"""What measurements are written as: Markdown pages with tables, CSV and JSON lines, curves and strips of frames.

`report.md` of a comparison, `pie-bench.md` of PIE-Bench, `truth.md` of frames against the ground truth.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate import truth
from kontext_slider.evaluate.baselines import INFERENCE_TIME
from kontext_slider.evaluate.compare import CEILING, OURS, STRENGTHS, Comparison, Measures, Result
from kontext_slider.evaluate.pie_bench import PieResult, mean_curve
from kontext_slider.evaluate.plots import plot_curves, plot_strips
from kontext_slider.metrics.statistics import cell, half_widths, markdown, means, paired, table
from kontext_slider.world.edits import family

LEGEND = """
- delta smooth: the largest triangle deficit of a sweep. A cross-fade is straight by construction and has less than the
  truth has.
- delta first: the largest step's share of the path. Linearity error: the progress against the strength. Monotonicity:
  rank correlation of strength and distance to the source.
- calibration error: the strength set against the strength that a frame looks like, by the ground truth.
- truth psnr: dB to the truth at strengths above 0; full psnr: at 1.
- leakage: change outside the edit as a share of the change inside.
- zero and full psnr gap: dB lost at 0 to the codec's own source, and at 1 to the base model's edit; below 0 is won.
- right object: the share of the edits of one object that changed it and no other.
""".strip()


def figures(comparison: Comparison) -> dict[str, Any]:
    """The means: ours flat, then per baseline (under "rivals", as in all reports so far) and per ablation; `intervals`
    are half widths at 95 % of ours."""
    ours = comparison.measures(OURS)[OURS]
    return {
        **means(ours),
        "phrasing_gap": round(float(np.mean(comparison.phrasing_losses)), 4),
        **{f"full_psnr_{name}": mean for name, mean in full_edits(comparison.results[OURS]).items()},
        "distance": comparison.distances[0],
        "num_edits": len(ours),
        "intervals": half_widths(ours),
        "rivals": _all_means(comparison, comparison.baselines),
        "ablations": _all_means(comparison, comparison.ablations),
        "offered": means(comparison.measures(OURS, offered=True)[OURS]),
        "beyond": comparison.beyond,
        "ceiling": means(comparison.measures(CEILING)[CEILING]),
    }


def _all_means(comparison: Comparison, names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: means(measures) for name, measures in comparison.measures(*names).items()}


def full_edits(results: Sequence[Result]) -> dict[str, float]:
    """Mean dB at strength 1 of edits of one object ("local") and of the whole scene ("global")."""
    groups: dict[str, list[float]] = {}
    for result in results:
        groups.setdefault("global" if result.case.mask is None else "local", []).append(result.measures.full_psnr)
    return {name: round(float(np.mean(values)), 2) for name, values in sorted(groups.items())}


def write_report(comparison: Comparison, folder: Path, command: str, notes: Mapping[str, str] | None = None) -> None:
    """`report.md`, `edits.csv` and plots, into a folder that exists. `notes`: what an ablation is, by its name."""
    plots = _write_plots(comparison, folder)
    rows = [
        {"method": method, "edit": result.case.edit, "instruction": result.case.instruction, "seed": result.seed}
        | asdict(result.measures)
        | {f"distance_{strength:.2f}": value for strength, value in zip(STRENGTHS, result.curve, strict=True)}
        for method, results in comparison.results.items()
        for result in results
    ]
    _write_csv(folder / "edits.csv", rows)
    (folder / "report.md").write_text(report(comparison, command, plots, notes or {}), encoding="utf-8")


def report(comparison: Comparison, command: str, plots: Sequence[str], notes: Mapping[str, str]) -> str:
    """The Markdown page. `plots`: file names beside it."""
    shown = (*comparison.baselines, CEILING)
    parts = ["# Sliders compared", f"`{command}`", _preface(comparison)]
    parts += [LEGEND, "## Baselines", table(comparison.measures(OURS, *shown)), _differences(comparison)]
    parts += _of_offered(comparison, shown)
    if comparison.ablations:
        parts += ["## Ablations", table(comparison.measures(OURS, *comparison.ablations))]
        lines = [f"- {name}: {notes[name]}" for name in comparison.ablations if name in notes]
        parts += ["\n".join(lines)] if lines else []
    if known := [name for name in comparison.baselines if name in INFERENCE_TIME]:
        parts += ["## Inference-time methods", table(comparison.measures(OURS, *known))]
    for name in comparison.distances[1:]:
        others = {method: [row.others[name] for row in rows] for method, rows in comparison.results.items()}
        parts += [f"## The same frames by the distance {name}", table(others)]
    if comparison.beyond:
        rows = [(name, *(f"{value:.1f}" for value in row.values())) for name, row in comparison.beyond.items()]
        parts += ["## Ours beyond strength 1", markdown(("", *(f"dB at {s:g}" for s in truth.BEYOND)), rows)]
    parts += ["## Ours, edit by edit", _by_edit(comparison.results[OURS])]
    return _page([*parts, "## Plots"], plots)


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


def _differences(comparison: Comparison) -> str:
    """Every other method minus ours, edit by edit."""
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr")
    measures = comparison.measures(*comparison.results)
    rows = [
        (method, *(paired(measures[OURS], measures[method], name) for name in names))
        for method in (*comparison.baselines, *comparison.ablations)
    ]
    text = "Minus ours, edit by edit. Ours is better where an error is above 0 and truth psnr is below 0:"
    return f"{text}\n\n{markdown(('method', *(name.replace('_', ' ') for name in names)), rows)}"


def _of_offered(comparison: Comparison, shown: Sequence[str]) -> list[str]:
    """The table of baselines again, of the edits that the model offers, where those are not all."""
    measures = comparison.measures(OURS, *shown, offered=True)
    count, total = len(measures[OURS]), len(comparison.results[OURS])
    if count in (0, total):
        return []
    note = f"The other {total - count} are of kinds that the model learned too weakly: the app warns about them."
    return [f"## Baselines, on the {count} edits that the model offers", note, table(measures)]


def _by_edit(results: Sequence[Result]) -> str:
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr", "full_psnr", "full_psnr_gap")
    groups: dict[str, list[Measures]] = {}
    for result in results:
        groups.setdefault(family(result.case.edit), []).append(result.measures)
    return table(groups, (*names, "right_object"), "edit")


def _write_plots(comparison: Comparison, folder: Path) -> list[str]:
    """The curves, and the strips of the cases whose frames were kept; returns the file names."""
    title = f"Distance to the source ({comparison.distances[0]}), as a share of the full truth's"
    curves = {name: np.mean([row.curve for row in rows], axis=0) for name, rows in comparison.results.items()}
    names = [plot_curves(curves, title, folder / "distance.png", OURS)]
    for number, result in enumerate(comparison.results[OURS]):
        if result.frames is not None:
            order = dict.fromkeys((OURS, CEILING, *comparison.results))
            rows = {name: comparison.results[name][number].frames or () for name in order}
            path = folder / f"strip-{number}-{result.case.edit}.jpg"
            names.append(plot_strips(rows, STRENGTHS, result.case.instruction, path))
    return names


def pie_figures(results: Mapping[str, Sequence[PieResult]], distance: str) -> dict[str, Any]:
    """The means of ours, flat, with its identity curve, and of the others under "rivals"."""
    flat = {name: means([row.measures for row in rows]) for name, rows in results.items()}
    ours = results[OURS]
    return {
        **flat.pop(OURS),
        "identity": mean_curve([row.identity for row in ours]),
        "distance": distance,
        "num_edits": len(ours),
        "intervals": half_widths([row.measures for row in ours]),
        "rivals": flat,
    }


def write_pie_report(results: Mapping[str, Sequence[PieResult]], folder: Path, command: str, distance: str) -> None:
    """`pie-bench.md`, `pie-bench.csv`, a plot of the progress and, with CLIP, one of the identity."""
    progress = {name: np.mean([row.progress for row in rows], axis=0) for name, rows in results.items()}
    title = f"Distance to the source ({distance}), as a share of the last frame's"
    plots = [plot_curves(progress, title, folder / "pie-distance.png", OURS)]
    identity = {name: curve for name, rows in results.items() if (curve := mean_curve([row.identity for row in rows]))}
    if identity:
        plots.append(plot_curves(identity, "CLIP similarity to the source", folder / "pie-identity.png", OURS))
    rows = [
        {"method": name, "id": row.id, "kind": row.kind, **asdict(row.measures)}
        for name, found in results.items()
        for row in found
    ]
    _write_csv(folder / "pie-bench.csv", rows)
    ours = results[OURS]
    kinds = {row.kind: [other.measures for other in ours if other.kind == row.kind] for row in ours}
    parts = [
        "# Sliders on PIE-Bench",
        f"`{command}`",
        f"{len(ours)} edits; means with half the width of their bootstrap intervals at 95 %. Distance: {distance}.",
        table({name: [row.measures for row in rows] for name, rows in results.items()}),
        "## Ours, type by type",
        table(kinds, head="type"),
    ]
    (folder / "pie-bench.md").write_text(_page(parts, plots), encoding="utf-8")


def write_truth(scores: Sequence[truth.Score], folder: Path, command: str) -> None:
    """`truth.md` with the tables and `truth.jsonl` with every frame's score."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Frames against the ground truth", f"`{command}`"]
    for kind in dict.fromkeys(score.kind for score in scores):
        parts.append(f"## On {kind}s\n\n{truth.table(scores, kind)}")
    (folder / "truth.md").write_text(_page(parts, ()), encoding="utf-8")
    (folder / "truth.jsonl").write_text("".join(json.dumps(asdict(score)) + "\n" for score in scores), encoding="utf-8")


def _page(parts: Sequence[str], plots: Sequence[str]) -> str:
    return "\n\n".join([*parts, *(f"![{name}]({name})" for name in plots)]) + "\n"


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
