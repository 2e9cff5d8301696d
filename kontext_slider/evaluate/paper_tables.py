"""The paper's tables 1 to 3, a model's own figures beside the paper's, from reports of `evaluate` on the same edits.

    python -m kontext_slider.evaluate.paper_tables runs/table-1 runs/table-2 --out runs/report

A method that no report has keeps its row, which says what it needs. Every method with the anchor has a row below it.
Runs of one slider ("NAME, run 2") are one row: an interval over trainings wants three of them.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.paper_rows import NOTE, PAPERS, READING, TABLES, TITLES, Row
from kontext_slider.evaluate.plots import plot_curves
from kontext_slider.evaluate.results import STRENGTHS
from kontext_slider.evaluate.rows import ANCHOR, CROSS_FADE, OURS
from kontext_slider.features import FITTED
from kontext_slider.files import make_folder, write_json, write_whole
from kontext_slider.metrics.statistics import Values, cell, interval, markdown

SMOOTH, TRUTH, CLIP_DIR = "delta_smooth_", "truth_psnr", "clip_dir"
RUNS = 3  # trainings that an interval over them wants
REPORT, FIGURES = "report.md", "figures.json"
FACTS = ("edit", "instruction", "seed", "id")  # which edit a line is about
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Measured:
    """The rows of all reports by method, one a training and edit, edits in one order."""

    methods: dict[str, Rows]

    def runs(self, name: str) -> list[Rows]:
        """The trainings of a method; one for what is not trained."""
        pattern = re.compile(re.escape(name) + r"(, run \d+)?")
        return [rows for method, rows in self.methods.items() if pattern.fullmatch(method)]

    def values(self, name: str, column: str) -> Values:
        """(runs, edits), NaN where an edit has no value."""
        found = [[float(row[column] or "nan") for row in rows] for rows in self.runs(name)]
        return np.array(found, dtype=np.float64)

    @property
    def columns(self) -> list[str]:
        return list(next(iter(self.methods.values()))[0])

    @property
    def rulers(self) -> list[str]:
        """The columns of delta_smooth."""
        return [name for name in self.columns if name.startswith(SMOOTH)]

    def others(self) -> list[str]:
        """Methods that no table names, without their runs and the anchor."""
        named = {row.name for rows in TABLES.values() for row in rows}
        plain = dict.fromkeys(re.sub(r", run \d+$", "", name).removesuffix(ANCHOR) for name in self.methods)
        return [name for name in plain if name not in named]


def read_reports(folders: Sequence[Path]) -> Measured:
    """`edits.csv` or `pie-bench.csv` of each folder; a method of several reports is taken from the first.

    Raises InvalidInput for a folder without one, and for reports of different edits or rulers."""
    methods: dict[str, Rows] = {}
    edits: list[tuple[str | None, ...]] = []
    for folder in folders:
        found = read_report(folder)
        for name, rows in found.items():
            described = [tuple(row.get(fact) for fact in FACTS) for row in rows]
            edits = edits or described
            known = list(next(iter(methods.values()))[0]) if methods else list(rows[0])
            if described != edits or list(rows[0]) != known:
                raise InvalidInput(f"{folder} has other edits or measures than {folders[0]}. Measure both alike.")
            methods.setdefault(name, rows)
    return Measured(methods)


def read_report(folder: Path) -> dict[str, Rows]:
    """The rows of one report by method. InvalidInput where there is none."""
    files = [folder / name for name in ("edits.csv", "pie-bench.csv") if (folder / name).is_file()]
    if not files:
        raise InvalidInput(f"{folder} holds no report of 'kontext-slider evaluate --edits' or '--pie-bench'.")
    methods: dict[str, Rows] = {}
    with open(files[0], newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            methods.setdefault(row["method"], []).append(row)
    return methods


def figure(values: Values) -> str:
    """A cell of (runs, edits): the mean with its interval over runs where there are enough, over edits elsewhere."""
    if not np.isfinite(values).any():
        return "-"
    if len(values) < RUNS:
        by_edit = np.nanmean(values, axis=0)
        return cell(by_edit[np.isfinite(by_edit)])
    means = np.nanmean(values, axis=1)
    spread = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
    return f"{means.mean():.3g} ± {spread:.2g} over {len(means)} runs"


def table(measured: Measured, rows: Sequence[Row]) -> str:
    """Markdown. A method without a report has a row that says what it needs."""
    has_truth, rulers = TRUTH in measured.columns, measured.rulers
    heads = [
        "system",
        *(_ruler(name) for name in rulers),
        *(["dB to the ground truth", "over the cross-fade"] * has_truth),
    ]
    lines = []
    held = [Row(row.name + ANCHOR, f"{row.title}, with the anchor") for row in rows]
    for row in (row for pair in zip(rows, held, strict=True) for row in pair):
        if not measured.runs(row.name):
            if row in held:
                continue
            lines.append((f"{row.title} (`{row.name}`)", row.needs, *["-"] * (len(heads) - 1), row.paper))
            continue
        cells = [figure(measured.values(row.name, name)) for name in rulers]
        if has_truth:
            cells += [figure(measured.values(row.name, TRUTH)), figure(gain(measured, row.name))]
        lines.append((f"{row.title} (`{row.name}`)", *cells, clip_dir(measured, row.name), row.paper))
    return markdown([*heads, "CLIP-dir", "the paper's"], lines)


def gain(measured: Measured, name: str) -> Values:
    """dB to the truth over the cross-fade's, (runs, edits); NaN where that was not measured."""
    values = measured.values(name, TRUTH)
    return values - measured.values(CROSS_FADE, TRUTH) if measured.runs(CROSS_FADE) else np.full_like(values, np.nan)


def clip_dir(measured: Measured, name: str) -> str:
    """CLIP-dir's cell."""
    return figure(measured.values(name, CLIP_DIR)) if CLIP_DIR in measured.columns else "no CLIP here"


def _ruler(column: str) -> str:
    name = column.removeprefix(SMOOTH)
    return f"delta_smooth, {name}" + (" (fitted to)" if name in FITTED else "")


def line(measured: Measured) -> dict[str, Any]:
    """All means by method, and what the trained slider adds to the cross-fade of the same base's edit."""
    found: dict[str, Any] = {"num_edits": measured.values(OURS, measured.rulers[0]).shape[1]}
    if TRUTH in measured.columns and measured.runs(CROSS_FADE):
        gains = gain(measured, OURS)[0]
        found["slider_gain_over_crossfade_db"] = round(float(gains.mean()), 3)
        found["slider_gain_over_crossfade_db_interval"] = [round(end, 3) for end in interval(gains)]
    for column in (*measured.rulers, *({TRUTH, CLIP_DIR} & set(measured.columns))):
        means = {name: float(np.nanmean(measured.values(name, column)[0])) for name in measured.methods}
        found[column] = {name: round(mean, 4) for name, mean in means.items()}
    return found


def read_stages(folder: Path) -> str:
    """Markdown of the notes that `benchmarks/reproduce.py` leaves: command, seconds, commit."""
    notes = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    notes.sort(key=lambda note: note["ended"])
    rows = [(f"`{shlex.join(note['command'])}`", note["seconds"], note["commit"]) for note in notes]
    total = f"{sum(note['seconds'] for note in notes) / 60:.0f} minutes in all"
    text = markdown(("command", "seconds", "commit"), rows)
    return f"{text}\n\n{total}; a stage that was killed counts from its last start."


def plot(measured: Measured, out: Path) -> str:
    """The distance to the source along the strengths, of what tables 1 and 2 name; returns the file's name."""
    names = [row.name for rows in list(TABLES.values())[:2] for row in rows if measured.runs(row.name)]
    ruler = measured.rulers[0].removeprefix(SMOOTH)
    columns = [f"{ruler}_{strength:.2f}" for strength in STRENGTHS]
    curves = {name: [float(measured.values(name, column).mean()) for column in columns] for name in names}
    return plot_curves(
        curves, f"Distance to the source ({ruler}), as a share of the full ground truth's", out / "distance.png", OURS
    )


def write(measured: Measured, out: Path, stages: Path | None) -> None:
    """`report.md`, `figures.json` and a plot, into a folder that exists."""
    figures = line(measured)
    others = tuple(Row(name, TITLES.get(name, name)) for name in measured.others())
    parts = ["# The paper's tables", NOTE, READING.format(fitted=" and ".join(FITTED))]
    for title, rows in TABLES.items():
        is_last = title == list(TABLES)[-1]
        parts += [f"## {title}", table(measured, rows + others if is_last else rows)]
    if measured.runs(PAPERS) and len(measured.runs(PAPERS)) < RUNS:
        parts.insert(3, "Each slider was trained once: one run, no claim about differences between trainings.")
    parts += ["## In one line", f"```json\n{json.dumps(figures)}\n```"]
    if stages:
        parts += ["## Stages", read_stages(stages)]
    parts += ["## Plots", f"![distance]({plot(measured, out)})"]
    write_json(out / FIGURES, figures)
    write_whole(out / REPORT, ("\n\n".join(parts) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The paper's three tables from reports of kontext-slider evaluate.")
    parser.add_argument("folders", nargs="+", type=Path, help="--out of evaluate, on the same edits")
    parser.add_argument("--out", type=Path, required=True, help="the report's folder")
    parser.add_argument("--stages", type=Path, help="notes of the commands that made the reports")
    args = parser.parse_args(argv)
    make_folder(args.out)
    write(read_reports(args.folders), args.out, args.stages)


if __name__ == "__main__":
    main()
