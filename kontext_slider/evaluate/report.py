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
from kontext_slider.evaluate.compare import CEILING, OURS, STRENGTHS, Comparison, MeasuredEdit, Measures, measures_of
from kontext_slider.evaluate.plots import plot_curves, plot_strips
from kontext_slider.metrics.statistics import cell, half_widths, markdown, means, paired, table
from kontext_slider.metrics.trajectory import Smoothness
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
        **{f"full_psnr_{name}": mean for name, mean in full_edits(ours).items()},
        "distance": comparison.distance,
        "num_edits": len(ours),
        "intervals": half_widths(ours),
        "rivals": {name: means(rows) for name, rows in baselines.items()},
        "ablations": {name: means(rows) for name, rows in ablations.items()},
        "offered": means(comparison.measures(OURS, offered=True)[OURS]),
        "beyond": beyond_one(comparison.edits),
        "ceiling": means(comparison.measures(CEILING)[CEILING]),
    }


def full_edits(measures: Sequence[Measures]) -> dict[str, float]:
    """Mean dB at strength 1, of edits of one object ("local") and of the whole scene ("global")."""
    groups: dict[str, list[float]] = {}
    for row in measures:
        groups.setdefault("global" if row.right_object is None else "local", []).append(row.full_psnr)
    return {name: round(float(np.mean(values)), 2) for name, values in sorted(groups.items())}


def beyond_one(edits: Sequence[MeasuredEdit]) -> dict[str, dict[float, float]]:
    """Mean dB by strength beyond 1, of the edits that go on there: {"slider": {1.0: 33.1, ...}, "stay": ...}."""
    rows = [edit.beyond for edit in edits if edit.beyond]
    decibels = {name: np.mean([row[name] for row in rows], axis=0).round(2) for name in (rows[0] if rows else ())}
    return {name: dict(zip(truth.BEYOND, values.tolist(), strict=True)) for name, values in decibels.items()}


def write_report(comparison: Comparison, folder: Path, command: str) -> None:
    """`report.md`, `edits.csv` and plots, into a folder that exists."""
    titles = {"distance": f"Distance to the source ({comparison.distance}), as a share of the full truth's"}
    plots = _write_curves(comparison.edits, titles, folder)
    for number, edit in enumerate(comparison.edits):
        if edit.results[OURS].frames:
            order = dict.fromkeys((OURS, CEILING, *edit.results))
            path = folder / f"strip-{number}-{edit.facts['edit']}.jpg"
            frames = {name: edit.results[name].frames for name in order}
            plots.append(plot_strips(frames, STRENGTHS, edit.facts["instruction"], path))
    _write_csv(comparison.edits, folder / "edits.csv")
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
    groups: dict[str, list[Smoothness]] = {}
    for edit in comparison.edits:
        groups.setdefault(family(edit.facts["edit"]), []).append(edit.results[OURS].measures)
    names = ("delta_smooth", "linearity_error", "calibration_error", "truth_psnr", "full_psnr", "full_psnr_gap")
    return [*parts, "## Ours, edit by edit", table(groups, (*names, "right_object"), "edit")]


def _preface(comparison: Comparison) -> str:
    ours = comparison.measures(OURS)[OURS]
    full = " and ".join(f"{value:.1f} dB for {name} edits" for name, value in full_edits(ours).items())
    seeds = sorted({edit.facts["seed"] for edit in comparison.edits})
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


def pie_figures(edits: Sequence[MeasuredEdit], distance: str) -> dict[str, Any]:
    """The means of ours, flat, with its identity curve (None without CLIP), and of the others under "rivals"."""
    measures = measures_of(edits)
    ours = measures.pop(OURS)
    identity = [edit.results[OURS].curves.get("identity", []) for edit in edits]
    return {
        **means(ours),
        "identity": np.mean(identity, axis=0).round(4).tolist() or None,
        "distance": distance,
        "num_edits": len(edits),
        "intervals": half_widths(ours),
        "rivals": {name: means(rows) for name, rows in measures.items()},
    }


def write_pie_report(edits: Sequence[MeasuredEdit], folder: Path, command: str, distance: str) -> None:
    """`pie-bench.md`, `pie-bench.csv`, a plot of the progress and, with CLIP, one of the identity."""
    titles = {
        "distance": f"Distance to the source ({distance}), as a share of the last frame's",
        "identity": "CLIP similarity to the source",
    }
    kinds: dict[str, list[Smoothness]] = {}
    for edit in edits:
        kinds.setdefault(edit.facts["kind"], []).append(edit.results[OURS].measures)
    parts = [
        "# Sliders on PIE-Bench",
        f"`{command}`",
        f"{len(edits)} edits; means with half the width of their bootstrap intervals at 95 %. Distance: {distance}.",
        table(measures_of(edits)),
        "## Ours, type by type",
        table(kinds, head="type"),
    ]
    _write_csv(edits, folder / "pie-bench.csv")
    _write_page(folder / "pie-bench.md", parts, _write_curves(edits, titles, folder, "pie-"))


def write_truth(scores: Sequence[truth.Score], folder: Path, command: str) -> None:
    """`truth.md` with the tables and `truth.jsonl` with every frame's score."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = dict.fromkeys(score.kind for score in scores)
    tables = [f"## On {kind}s\n\n{truth.table(scores, kind)}" for kind in kinds]
    _write_page(folder / "truth.md", ["# Frames against the ground truth", f"`{command}`", *tables], ())
    (folder / "truth.jsonl").write_text("".join(json.dumps(asdict(score)) + "\n" for score in scores), encoding="utf-8")


def _write_page(path: Path, parts: Sequence[str], plots: Sequence[str]) -> None:
    path.write_text("\n\n".join([*parts, *(f"![{name}]({name})" for name in plots)]) + "\n", encoding="utf-8")


def _write_curves(
    edits: Sequence[MeasuredEdit], titles: Mapping[str, str], folder: Path, prefix: str = ""
) -> list[str]:
    """A plot of the means of each curve that was measured; returns the file names."""
    names = []
    for curve in edits[0].results[OURS].curves:
        lines = {
            name: np.mean([edit.results[name].curves[curve] for edit in edits], axis=0) for name in edits[0].results
        }
        names.append(plot_curves(lines, titles[curve], folder / f"{prefix}{curve}.png", OURS))
    return names


def _write_csv(edits: Sequence[MeasuredEdit], path: Path) -> None:
    """A row for each method and edit: what it is, its measures and its curves."""
    rows = []
    for method in edits[0].results:
        for edit in edits:
            result = edit.results[method]
            curves = {f"{c}_{s:.2f}": v for c, vs in result.curves.items() for s, v in zip(STRENGTHS, vs, strict=True)}
            rows.append({"method": method, **edit.facts, **asdict(result.measures), **curves})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
