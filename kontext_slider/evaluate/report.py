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
from kontext_slider.evaluate.compare import CEILING, OURS, STRENGTHS, Comparison, MeasuredEdit, Measures
from kontext_slider.evaluate.pie_bench import PieResult
from kontext_slider.evaluate.plots import plot_curves, plot_strips
from kontext_slider.metrics.statistics import cell, half_widths, markdown, means, paired, table
from kontext_slider.variants import VARIANTS
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
    baselines, ablations = comparison.measures(*comparison.baselines), comparison.measures(*comparison.ablations)
    return {
        **means(ours),
        "phrasing_gap": round(float(np.mean([edit.phrasing_loss for edit in comparison.edits])), 4),
        **{f"full_psnr_{name}": mean for name, mean in full_edits(comparison.edits).items()},
        "distance": comparison.distance,
        "num_edits": len(ours),
        "intervals": half_widths(ours),
        "rivals": {name: means(rows) for name, rows in baselines.items()},
        "ablations": {name: means(rows) for name, rows in ablations.items()},
        "offered": means(comparison.measures(OURS, offered=True)[OURS]),
        "beyond": beyond_one(comparison.edits),
        "ceiling": means(comparison.measures(CEILING)[CEILING]),
    }


def full_edits(edits: Sequence[MeasuredEdit]) -> dict[str, float]:
    """Mean dB of ours at strength 1, of edits of one object ("local") and of the whole scene ("global")."""
    groups: dict[str, list[float]] = {}
    for edit in edits:
        groups.setdefault("local" if edit.is_local else "global", []).append(edit.results[OURS].measures.full_psnr)
    return {name: round(float(np.mean(values)), 2) for name, values in sorted(groups.items())}


def beyond_one(edits: Sequence[MeasuredEdit]) -> dict[str, dict[float, float]]:
    """Mean dB by strength beyond 1, of the edits that go on there: {"slider": {1.0: 33.1, ...}, "stay": ...}."""
    rows = [edit.beyond for edit in edits if edit.beyond]
    decibels = {name: np.mean([row[name] for row in rows], axis=0).round(2) for name in (rows[0] if rows else ())}
    return {name: dict(zip(truth.BEYOND, values.tolist(), strict=True)) for name, values in decibels.items()}


def write_report(comparison: Comparison, folder: Path, command: str) -> None:
    """`report.md`, `edits.csv` and plots, into a folder that exists."""
    title = f"Distance to the source ({comparison.distance}), as a share of the full truth's"
    methods = list(comparison.edits[0].results)
    curves = {name: np.mean([edit.results[name].curve for edit in comparison.edits], axis=0) for name in methods}
    plots = [plot_curves(curves, title, folder / "distance.png", OURS)]
    for number, edit in enumerate(comparison.edits):
        if edit.results[OURS].frames:
            order = dict.fromkeys((OURS, CEILING, *methods))
            frames = {name: edit.results[name].frames or () for name in order}
            path = folder / f"strip-{number}-{edit.edit}.jpg"
            plots.append(plot_strips(frames, STRENGTHS, edit.instruction, path))
    rows = [
        {"method": method, "edit": edit.edit, "instruction": edit.instruction, "seed": edit.seed}
        | asdict(edit.results[method].measures)
        | {f"distance_{s:.2f}": value for s, value in zip(STRENGTHS, edit.results[method].curve, strict=True)}
        for method in methods
        for edit in comparison.edits
    ]
    _write_csv(folder / "edits.csv", rows)
    _write_page(folder / "report.md", [*report(comparison, command), "## Plots"], plots)


def report(comparison: Comparison, command: str) -> list[str]:
    """The parts of the Markdown page."""
    shown = (OURS, *comparison.baselines, CEILING)
    parts = ["# Sliders compared", f"`{command}`", _preface(comparison), LEGEND]
    parts += ["## Baselines", table(comparison.measures(*shown)), _differences(comparison)]
    offered = comparison.measures(*shown, offered=True)
    if 0 < len(offered[OURS]) < len(comparison.edits):
        others = len(comparison.edits) - len(offered[OURS])
        parts += [
            f"## Baselines, on the {len(offered[OURS])} edits that the model offers",
            f"The other {others} are of kinds that the model learned too weakly: the app warns about them.",
            table(offered),
        ]
    if comparison.ablations:
        parts += ["## Ablations", table(comparison.measures(OURS, *comparison.ablations))]
        parts += [f"- {name}: {VARIANTS[name]}" for name in comparison.ablations if name in VARIANTS]
    if beyond := beyond_one(comparison.edits):
        rows = [(name, *(f"{value:.1f}" for value in row.values())) for name, row in beyond.items()]
        parts += ["## Ours beyond strength 1", markdown(("", *(f"dB at {s:g}" for s in truth.BEYOND)), rows)]
    groups: dict[str, list[Measures]] = {}
    for edit in comparison.edits:
        groups.setdefault(family(edit.edit), []).append(edit.results[OURS].measures)
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr", "full_psnr", "full_psnr_gap")
    return [*parts, "## Ours, edit by edit", table(groups, (*names, "right_object"), "edit")]


def _preface(comparison: Comparison) -> str:
    full = " and ".join(f"{value:.1f} dB for {name} edits" for name, value in full_edits(comparison.edits).items())
    seeds = sorted({edit.seed for edit in comparison.edits})
    losses = cell(np.array([edit.phrasing_loss for edit in comparison.edits]))
    return (
        f"{len(comparison.edits)} held-out edits, seeds {', '.join(map(str, seeds))}; means with half the width of "
        f"their bootstrap intervals at 95 %. Smoothness is measured by the distance {comparison.distance}. "
        f"`{CEILING}` is no method but what a perfect one could reach behind this codec. "
        f"Ours at full strength: {full}; words never trained on cost {losses} dB."
    )


def _differences(comparison: Comparison) -> str:
    """Every other method minus ours, edit by edit."""
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr")
    measures = comparison.measures(OURS, *comparison.baselines, *comparison.ablations)
    ours = measures.pop(OURS)
    rows = [(method, *(paired(ours, other, name) for name in names)) for method, other in measures.items()]
    text = "Minus ours, edit by edit. Ours is better where an error is above 0 and truth psnr is below 0:"
    return f"{text}\n\n{markdown(('method', *(name.replace('_', ' ') for name in names)), rows)}"


def pie_figures(results: Mapping[str, Sequence[PieResult]], distance: str) -> dict[str, Any]:
    """The means of ours, flat, with its identity curve (None without CLIP), and of the others under "rivals"."""
    flat = {name: means([row.measures for row in rows]) for name, rows in results.items()}
    ours = results[OURS]
    return {
        **flat.pop(OURS),
        "identity": np.mean([row.identity for row in ours], axis=0).round(4).tolist() or None,
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
    if results[OURS][0].identity:
        identity = {name: np.mean([row.identity for row in rows], axis=0) for name, rows in results.items()}
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
    _write_page(folder / "pie-bench.md", parts, plots)


def write_truth(scores: Sequence[truth.Score], folder: Path, command: str) -> None:
    """`truth.md` with the tables and `truth.jsonl` with every frame's score."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = dict.fromkeys(score.kind for score in scores)
    tables = [f"## On {kind}s\n\n{truth.table(scores, kind)}" for kind in kinds]
    _write_page(folder / "truth.md", ["# Frames against the ground truth", f"`{command}`", *tables], ())
    (folder / "truth.jsonl").write_text("".join(json.dumps(asdict(score)) + "\n" for score in scores), encoding="utf-8")


def _write_page(path: Path, parts: Sequence[str], plots: Sequence[str]) -> None:
    path.write_text("\n\n".join([*parts, *(f"![{name}]({name})" for name in plots)]) + "\n", encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
