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
from kontext_slider.evaluate.plots import plot_curves
from kontext_slider.evaluate.results import STRENGTHS
from kontext_slider.evaluate.rows import ANCHOR, ANCHOR_ALONE, CEILING, CROSS_FADE, NO_ANCHOR, OURS, OWN_FADE
from kontext_slider.features import FITTED
from kontext_slider.files import make_folder, write_json, write_whole
from kontext_slider.metrics.statistics import Values, cell, interval, markdown

SMOOTH, TRUTH, CLIP_DIR = "delta_smooth_", "truth_psnr", "clip_dir"
PAPERS = "full"  # the name of the slider that is trained as the paper has it
RUNS = 3  # trainings that an interval over them wants
REPORT, FIGURES = "report.md", "figures.json"
STABLE_DIFFUSION = "needs Stable Diffusion 2.1 (5 GB)"


@dataclass(frozen=True)
class Row:
    """A system of the paper, or one beside its systems: its name in reports, the paper's delta_smooth / CLIP-dir, and
    what it needs that a report without it lacked."""

    name: str
    title: str
    paper: str = "-"
    needs: str = "not measured"


METHOD = "the paper's method as the paper has it, trained here"
TABLES: dict[str, tuple[Row, ...]] = {
    "Table 1: systems": (
        Row(OURS, "this model's own slider, as shipped"),
        Row(NO_ANCHOR, "the same without its anchor"),
        Row(PAPERS, METHOD, "0.329 / 0.241 (beside ConceptSliders 0.098 / 0.382, beside MARBLE 0.350 / 0.101)"),
        Row(ANCHOR_ALONE, "the anchor alone: an untrained slider with it"),
        Row(CROSS_FADE, "pixel cross-fade of the base's edit, which that is"),
        Row(OWN_FADE, "pixel cross-fade of the slider's full edit"),
        Row("free-morph", "FreeMorph", "0.365 / 0.189", STABLE_DIFFUSION),
        Row("diff-morpher", "DiffMorpher", "0.371 / 0.181", STABLE_DIFFUSION),
        Row("wan", "WAN 2.1, first and last frame", "0.853 / 0.269", "needs WAN 2.1 FLF2V (14 B) and a GPU"),
        Row("concept-slider", "ConceptSliders", "0.143 / 0.186", "needs sliders of train-concept"),
        Row("marble", "MARBLE", "2.577 / 0.157", "needs SDXL, an IP-Adapter, depth and masks; knows four attributes"),
        Row(CEILING, "no system: the ground truth behind the codec"),
    ),
    "Table 2: ablations": (
        Row("text-space", "the strength as a token in text space", "1.468 / 0.191"),
        Row("no-pooled", "without pooled text in the projector", "1.092 / 0.141"),
        Row("no-filtering", "without filtering the data", "0.483 / 0.228"),
        Row(PAPERS, METHOD, "0.329 / 0.241"),
        Row("pocket", "pocket's design on the same data: vector of time and text, anchored, trained as shown"),
    ),
    "Table 3: scales of the base, and other baselines": (
        Row("cfg-scale", "CFG scale", "152.2 / 0.242"),
        Row("attention-reweighting", "attention reweighting", "120.8 / 0.237"),
    ),
}
NOTE = """
Beside each row stand the paper's figures: FLUX.1 Kontext, PIE-Bench, DreamSim, delta_smooth / CLIP-dir. They are of
another model on other pictures by another ruler, so only the order of rows can be compared with them. **What is
measured here does not carry over to FLUX**: with the released weights it has no anchor. An anchor alone is already a
cross-fade, which every ruler of smoothness likes.
""".strip()
READING = """
- delta_smooth: the largest triangle deficit of a sweep (paper, appendix A.6), by several rulers; less is smoother. The
  synthetic edits were spaced by {fitted}: those columns judge nothing, they are beside for comparison.
- dB to the ground truth: PSNR of frames above strength 0 to the drawn picture at the same strength; more is nearer.
- over the cross-fade: the same minus the cross-fade's, edit by edit, with half the width of its interval at 95 %.
- `full` is the paper's method as the paper has it, in this model's size: offsets in the text stream, 128 sines and
  cosines, no anchor, every frame trained for itself. The rows of table 2 differ from it in one thing each.
- ± is half the width of the bootstrap interval at 95 % over edits; where it says "over N runs", over trainings.
""".strip()
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
    others = tuple(Row(name, name.replace("-", " ")) for name in measured.others())
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
