"""PIE-Bench in shares over processes and machines. Results are kept line by line, so that a killed run goes on.

run.json                what all results here are made by: model (`model_hash`), seed, rulers, edits
K-of-N/process-J.jsonl  a line for each edit and method of share K of N

Machines with one disk work in one folder; the shares of others are copied into one. A line that was cut short counts
for nothing, and its edit is measured again; of two lines about the same, the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from kontext_slider.engine.model_hash import model_hash
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.pie_bench import PieCase, PieMeasures, PieSetup, measure_case, read_pie_bench
from kontext_slider.evaluate.processes import share_out
from kontext_slider.evaluate.results import STRENGTHS, MeasuredEdit, Result
from kontext_slider.files import append_json_line, json_sha256, read_json_lines
from kontext_slider.metrics.trajectory import Smoothness
from kontext_slider.run_folder import alone_in, check_run, open_run

NOTE = "run.json"
Key = tuple[str, str]  # of an edit, name of a method
Make = Callable[[int], PieSetup]  # by the number of the process


@dataclass(frozen=True)
class Line:
    """One method on one edit. `made_by`: what the method was, in words."""

    id: str
    method: str
    made_by: str
    measures: PieMeasures
    smoothness: dict[str, Smoothness]
    curves: dict[str, list[float]]


LINE = TypeAdapter(Line)


@dataclass(frozen=True)
class PieRun:
    """What is measured, and where results are kept.

    Args:
        folder: of the run. bench: PIE-Bench's folder.
        methods: name -> what it is, in words: weights, free numbers. Results of another method under its name are
            refused.
        seed: draws the noise.
        facts: more that every result depends on, as JSON values by name.
    """

    folder: Path
    bench: Path
    methods: Mapping[str, str]
    seed: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> Path:
        return self.folder / NOTE

    def results(self) -> dict[Key, Result]:
        """All that is measured. InvalidInput where a method of this run was another one."""
        found: dict[Key, Result] = {}
        for path in sorted(self.folder.glob("*-of-*/*.jsonl")):
            for line in filter(None, map(_line, read_json_lines(path))):
                if self.methods.get(line.method, line.made_by) != line.made_by:
                    raise InvalidInput(
                        f"In {path}, '{line.method}' was {line.made_by}, and now it is {self.methods[line.method]}. "
                        "Give it another name, or choose another folder with --out."
                    )
                result = Result(line.measures, line.smoothness, line.curves)
                found.setdefault((line.id, line.method), result)
        return found


def measure_pie_bench(run: PieRun, make: Make, share: tuple[int, int] = (0, 1), num_processes: int = 1) -> None:
    """Measure what is not measured yet, of share (K, N): each N-th edit from the K-th on, over so many processes.

    make: the models, for one process; it must be picklable. It is not called by a process that has nothing to do.

    Raises InvalidInput for data that is damaged (before anything is measured), and for a folder whose results were made
    by something else.
    """
    edits = json_sha256(list_cases(run.bench))
    facts = {"seed": run.seed, "strengths": len(STRENGTHS) - 1, **run.facts, "edits": edits}
    if run.note.exists():
        check_run(run.note, facts)
    first, step = share
    with alone_in(run.folder / f"{first}-of-{step}"):
        share_out(partial(_measure_some, run, make, facts, share, num_processes), num_processes)


def list_cases(bench: Path) -> list[dict[str, str]]:
    """The "id", "kind", words, and a digest of picture and mask of every edit. So damage is found before a model is
    loaded.

    Raises as `read_pie_bench`, and InvalidInput where there is none."""
    words = ("id", "kind", "instruction", "source_prompt", "target_prompt")
    cases = [
        {name: getattr(case, name) for name in words} | {"pixels": _digest(case)} for case in read_pie_bench(bench)
    ]
    if not cases:
        raise InvalidInput("PIE-Bench has none of the edits that the paper measures on here. Download all of it.")
    return cases


def _digest(case: PieCase) -> str:
    """Of the picture's size and pixels, and the mask."""
    data = str(case.image.size).encode() + case.image.convert("RGB").tobytes() + case.mask.tobytes()
    return sha256(data).hexdigest()[:16]


def measured_edits(run: PieRun) -> list[MeasuredEdit]:
    """Every edit by all methods of the run. InvalidInput where some are not measured yet."""
    results, cases = run.results(), list_cases(run.bench)
    missing = {method: sum((case["id"], method) not in results for case in cases) for method in run.methods}
    if any(missing.values()):
        left = ", ".join(f"{count} of {len(cases)} edits by '{method}'" for method, count in missing.items() if count)
        raise InvalidInput(f"{run.folder} lacks {left}. The same command without --share measures what is missing.")
    return [
        MeasuredEdit(
            {"id": case["id"], "kind": case["kind"]}, {method: results[case["id"], method] for method in run.methods}
        )
        for case in cases
    ]


def _measure_some(
    run: PieRun, make: Make, facts: dict[str, Any], share: tuple[int, int], num_processes: int, number: int
) -> None:
    """The part of process `number`."""
    first, step = share[0] + number * share[1], share[1] * num_processes
    pending = list(_pending(run, first, step))
    if not pending:
        return
    setup = make(number)
    open_run(run.note, {**facts, "edit_defaults": asdict(setup.pipe.defaults), "model": model_hash(setup.pipe)})
    path = run.folder / f"{share[0]}-of-{share[1]}" / f"process-{number}.jsonl"
    for case, methods in tqdm(pending, unit="edit", position=number):
        for method, result in measure_case(setup, case, methods, run.seed):
            line = Line(case.id, method, run.methods[method], result.measures, result.smoothness, result.curves)
            append_json_line(path, asdict(line))


def _pending(run: PieRun, first: int, step: int) -> Iterator[tuple[PieCase, list[str]]]:
    """Each `step`-th edit from `first` on, with the methods that it still lacks."""
    done = run.results()
    for number, case in enumerate(read_pie_bench(run.bench)):
        methods = [method for method in run.methods if (case.id, method) not in done]
        if number >= first and (number - first) % step == 0 and methods:
            yield case, methods


def _line(value: Any) -> Line | None:
    """A line's value as what it must be, or None."""
    try:
        return LINE.validate_python(value)
    except ValidationError:
        return None
