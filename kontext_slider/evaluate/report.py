"""What a comparison is written as: a Markdown page with tables, a CSV file, curves and strips, and the means as JSON.

The gain over the cross-fade comes first, then smoothness by several rulers side by side (`headline`, `features`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kontext_slider.evaluate import truth
from kontext_slider.evaluate.ablations import ablation_figures, ablation_section
from kontext_slider.evaluate.compare import Comparison
from kontext_slider.evaluate.headline import gain_table, headline, headline_figures
from kontext_slider.evaluate.pages import row_figures, smoothness_tables, write_csv, write_curves, write_page
from kontext_slider.evaluate.results import MeasuredEdit, measures_of, rulers_of, smoothness_by
from kontext_slider.evaluate.rows import CEILING, OURS, PARTS
from kontext_slider.features import FITTED
from kontext_slider.metrics.statistics import cell, half_widths, markdown, paired, table
from kontext_slider.world.cases import CHOOSING_SEEDS
from kontext_slider.world.edits import family

LEGEND = """
- delta smooth: the largest triangle deficit of a sweep. A cross-fade is straight by construction and has less than the
  truth has: read it beside the dB to the ground truth.
- delta first: the largest step's share of the path. Linearity error: the progress against the strength. Monotonicity:
  rank correlation of strength and distance to the source.
- calibration error: the strength set against the strength that a frame looks like, by the ground truth.
- truth psnr: dB to the ground truth at strengths above 0; full psnr: at 1.
- leakage: change outside the edit as a share of the change inside.
- zero and full psnr gap: dB lost at 0 to the codec's own source, and at 1 to the base model's edit; below 0 is won.
- right object: the share of the edits of one object that changed it and no other.
""".strip()


def figures(comparison: Comparison) -> dict[str, Any]:
    """The headline, then the means: ours flat, baselines under "rivals" (as in all reports so far), what ours is made
    of under "parts", ablations by run; smoothness is flat by the first ruler, and by all of them under "by_ruler".
    `intervals` are half widths at 95 % of ours."""
    edits, rows = comparison.edits, comparison.rows
    runs = {run: row_figures(edits, run) for runs in rows.ablations.values() for run in runs}
    offered = comparison.on_offered()
    return {
        **headline_figures(comparison),
        **row_figures(edits, OURS),
        "phrasing_gap": round(float(np.mean([edit.phrasing_loss for edit in edits])), 4),
        "distance": rulers_of(edits)[0],
        "num_edits": len(edits),
        "intervals": half_widths(measures_of(edits, OURS))
        | half_widths(smoothness_by(edits, OURS, rulers_of(edits)[0])),
        "parts": {row: row_figures(edits, row) for row in rows.parts[1:]},
        "rivals": {row: row_figures(edits, row) for row in rows.baselines},
        "ablations": runs,
        "ablations_over_runs": ablation_figures(comparison),
        "ceiling": row_figures(edits, CEILING),
        "offered": {row: row_figures(offered, row) for row in (*rows.all, CEILING)} if offered else {},
        "beyond": beyond_one(edits),
        "is_for_reporting": is_for_reporting(comparison),
    }


def is_for_reporting(comparison: Comparison) -> bool:
    """Whether nothing may have been chosen on these scenes."""
    return not any(edit.facts["seed"] in CHOOSING_SEEDS for edit in comparison.edits)


def beyond_one(edits: Sequence[MeasuredEdit]) -> dict[str, dict[float, float]]:
    """Mean dB by strength beyond 1, of the edits that go on there: {"slider": {1.0: 33.1, ...}, "stay": ...}."""
    rows = [edit.beyond for edit in edits if edit.beyond]
    decibels = {name: np.mean([row[name] for row in rows], axis=0).round(2) for name in (rows[0] if rows else ())}
    return {name: dict(zip(truth.BEYOND, values.tolist(), strict=True)) for name, values in decibels.items()}


def write_report(comparison: Comparison, folder: Path, command: str) -> None:
    """`report.md`, `edits.csv` and plots, into a folder that exists."""
    edits = comparison.edits
    titles = {
        ruler: f"Distance to the source ({ruler}), as a share of the full ground truth's" for ruler in rulers_of(edits)
    }
    plots = [*write_curves(edits, titles, folder, OURS), *comparison.strips]
    write_csv(edits, folder / "edits.csv")
    write_page(folder / "report.md", [*report(comparison, command), "## Plots"], plots)


def report(comparison: Comparison, command: str) -> list[str]:
    """The parts of the Markdown page."""
    edits, rows = comparison.edits, comparison.rows
    shown = [*rows.parts, *rows.baselines]
    parts = ["# Sliders compared", headline(comparison), f"`{command}`", _preface(comparison), LEGEND]
    parts += ["## What the slider adds", gain_table(comparison, rows.all)]
    parts += ["\n".join(f"- {row}: {PARTS[row]}" for row in rows.parts)]
    parts += ["## Smoothness, by every ruler", *smoothness_tables(edits, [*shown, CEILING])]
    parts += ["## Against the ground truth", table({row: measures_of(edits, row) for row in (*shown, CEILING)})]
    parts += [_differences(comparison, [*shown[1:], CEILING])]
    parts += _offered(comparison, [*shown, CEILING])
    parts += ablation_section(comparison)
    if beyond := beyond_one(edits):
        lines = [(name, *(f"{value:.1f}" for value in row.values())) for name, row in beyond.items()]
        parts += ["## Ours beyond strength 1", markdown(("", *(f"dB at {s:g}" for s in truth.BEYOND)), lines)]
    groups: dict[str, list[Any]] = {}
    for edit in edits:
        groups.setdefault(family(edit.facts["edit"]), []).append(edit.results[OURS].measures)
    names = ("calibration_error", "truth_psnr", "full_psnr", "full_psnr_gap", "right_object")
    return [*parts, "## Ours, edit by edit", table(groups, names, "edit")]


def _preface(comparison: Comparison) -> str:
    edits = comparison.edits
    seeds = ", ".join(map(str, sorted({edit.facts["seed"] for edit in edits})))
    losses = cell(np.array([edit.phrasing_loss for edit in edits]))
    fitted = [ruler for ruler in rulers_of(edits) if ruler in FITTED]
    judges = [ruler for ruler in rulers_of(edits) if ruler not in FITTED]
    text = (
        f"{len(edits)} held-out edits, seeds {seeds}; means with half the width of their bootstrap intervals at 95 % "
        f"over edits. `{CEILING}` is no method but what a perfect one could reach behind this codec. Words never "
        f"trained on cost ours {losses} dB at full strength. Smoothness is judged by {', '.join(judges) or 'nothing'}."
    )
    if fitted:
        text += (
            f" Only shown: {', '.join(fitted)}. The synthetic edits were spaced evenly by the mean of the model's own "
            "features and RMS, so by these whoever learned the spacing looks smooth."
        )
    if not is_for_reporting(comparison):
        text += (
            " **Seeds below 100 are for choosing: the edits that the model offers and settings were chosen on such "
            "scenes. Do not report these figures.**"
        )
    return text


def _differences(comparison: Comparison, rows: Sequence[str]) -> str:
    """Rows minus ours, edit by edit."""
    edits, rulers = comparison.edits, rulers_of(comparison.edits)
    ours = measures_of(edits, OURS)
    lines = []
    for row in rows:
        smooth = [paired(smoothness_by(edits, OURS, r), smoothness_by(edits, row, r), "delta_smooth") for r in rulers]
        others = [paired(ours, measures_of(edits, row), name) for name in ("calibration_error", "truth_psnr")]
        lines.append((row, *smooth, *others))
    heads = ("minus ours", *(f"delta smooth, {ruler}" for ruler in rulers), "calibration error", "truth psnr")
    text = "Minus ours, edit by edit. Ours is better where an error is above 0 and truth psnr is below 0:"
    return f"{text}\n\n{markdown(heads, lines)}"


def _offered(comparison: Comparison, rows: Sequence[str]) -> list[str]:
    """A section on the edits that the model offers, for every row; none where that is all of them, or unknown."""
    offered, num_edits = comparison.on_offered(), len(comparison.edits)
    if not 0 < len(offered) < num_edits:
        return []
    return [
        f"## Against the ground truth, on the {len(offered)} edits that the model offers",
        f"The app warns about the other {num_edits - len(offered)}: the model learned these kinds too weakly.",
        table({row: measures_of(offered, row) for row in rows}),
    ]


def write_truth(scores: Sequence[truth.Score], folder: Path, command: str) -> None:
    """`truth.md` with the tables and `truth.jsonl` with every frame's score."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = dict.fromkeys(score.kind for score in scores)
    tables = [f"## On {kind}s\n\n{truth.table(scores, kind)}" for kind in kinds]
    write_page(folder / "truth.md", ["# Frames against the ground truth", f"`{command}`", *tables])
    (folder / "truth.jsonl").write_text("".join(json.dumps(asdict(score)) + "\n" for score in scores), encoding="utf-8")
