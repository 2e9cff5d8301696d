"""A comparison of many edits, over several processes. Each edit is kept when it is measured, so a killed run goes on.

edits/process-K.jsonl   a line for each edit: all methods on it, and a digest of what they are made by
strip-N-EDIT.jpg        the frames of some edits side by side

A line that was cut short, or that other settings, weights or another version of this code made, counts for nothing:
that edit is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from tqdm import tqdm

import kontext_slider
from kontext_slider.engine.model_hash import model_hash
from kontext_slider.evaluate.compare import Comparison, Measures, measure_edit
from kontext_slider.evaluate.processes import share_out
from kontext_slider.evaluate.results import MeasuredEdit
from kontext_slider.evaluate.rows import Setup, rows_of
from kontext_slider.files import append_json_line, file_sha256, json_sha256, read_json_lines
from kontext_slider.run_folder import alone_in
from kontext_slider.world.cases import HELD_OUT_SEED, balanced_case

Key = tuple[int, int]  # seed and number of an edit
EDIT = TypeAdapter(MeasuredEdit)


@dataclass(frozen=True)
class CompareRun:
    """What is measured, and where results are kept.

    Args:
        folder: of the report. num_edits: for each seed; kinds of edits are drawn evenly at every number.
        seeds: draw scenes and noise.
        num_strips: so many edits of the first seed, evenly spread, get a picture of their frames.
        facts: what the results depend on beside the model and this code, as JSON values by name: methods and rulers.
    """

    folder: Path
    num_edits: int
    seeds: Sequence[int]
    num_strips: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def edits(self) -> Path:
        return self.folder / "edits"

    def tasks(self) -> list[tuple[int, int, bool]]:
        """(seed, number, whether it gets a strip) of every edit, in the order of the report."""
        num_kept = min(self.num_strips, self.num_edits)
        kept = {k * self.num_edits // num_kept for k in range(num_kept)}
        return [(seed, n, seed == self.seeds[0] and n in kept) for seed in self.seeds for n in range(self.num_edits)]

    def measured(self, made_by: str) -> dict[Key, MeasuredEdit]:
        """All that was measured by the same model, methods and code; of two lines about one edit, the first."""
        lines = [line for path in sorted(self.edits.glob("*.jsonl")) for line in read_json_lines(path)]
        found: dict[Key, MeasuredEdit] = {}
        for line in lines:
            if isinstance(line, dict) and line.get("made_by") == made_by:
                edit = EDIT.validate_python(line["edit"])
                results = {row: replace(each, measures=Measures(**each.measures)) for row, each in edit.results.items()}
                found.setdefault((line["seed"], line["number"]), replace(edit, results=results))
        return found


def compare_all(run: CompareRun, make: Callable[[], Setup], num_processes: int = 1) -> Comparison:
    """All methods on all edits of a run.

    Args:
        make: makes the setup; with several processes each calls it for itself, so it must be picklable.
        num_processes: this one and others, which share the threads: a small model's matrices are too small for many.

    Raises InvalidInput where another run is at work in the folder.
    """
    tasks = run.tasks()
    with alone_in(run.edits):
        done = share_out(partial(_compare_some, run, make, num_processes), num_processes)
    edits = [done[n % num_processes].edits[n // num_processes] for n in range(len(tasks))]
    strips = sorted((name for each in done for name in each.strips), key=lambda name: int(name.split("-")[1]))
    return replace(done[0], edits=edits, strips=strips)


def _compare_some(run: CompareRun, make: Callable[[], Setup], num_processes: int, process: int) -> Comparison:
    """The part of one process."""
    setup = make()
    pipe = setup.pipe
    pipe.set_progress_bar_config(disable=True)
    facts = {**run.facts, "model": model_hash(pipe), "defaults": asdict(pipe.defaults), "code": code_sha256()}
    made_by = json_sha256(facts)
    measured, edits, strips = run.measured(made_by), list[MeasuredEdit](), list[str]()
    for seed, number, has_strip in tqdm(run.tasks()[process::num_processes], unit="edit", position=process):
        case = balanced_case(number, pipe.defaults.size, HELD_OUT_SEED + seed)
        strip = run.folder / f"strip-{number}-{case.edit}.jpg" if has_strip else None
        edit = measured.get((seed, number))
        if edit is None or (strip and not strip.exists()):
            edit = measure_edit(setup, case, seed, strip)
            line = {"made_by": made_by, "seed": seed, "number": number, "edit": asdict(edit)}
            append_json_line(run.edits / f"process-{process}.jsonl", line)
        edits.append(edit)
        strips += [strip.name] if strip else []
    return Comparison(edits, rows_of(setup), pipe.defaults.anchor_source, frozenset(pipe.known_instructions), strips)


def code_sha256() -> str:
    """Digest of this package's own code: what it measures may change with it."""
    root = Path(kontext_slider.__file__).parent
    return json_sha256({path.relative_to(root).as_posix(): file_sha256(path) for path in sorted(root.rglob("*.py"))})
