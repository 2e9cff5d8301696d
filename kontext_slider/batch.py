"""A sweep for each of many pictures, which can be stopped and started again.

A result's name ends in a digest of all that made it: the picture's place and bytes, instruction, strengths, model and
every option. So a name that is there already means that just this work is done; other options give other names.
`manifest.jsonl` beside the results has one line for each of them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InvalidInput, KontextSliderError, UnreadableImage
from .export import read_metadata, save_sweep
from .raw import RAW_SUFFIXES

if TYPE_CHECKING:
    from .engine import SliderEngine

MANIFEST = "manifest.jsonl"
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"),
    *RAW_SUFFIXES,
)
MAX_STEM = 100  # characters of the source's name in the result's name


@dataclass(frozen=True)
class SweepOptions:
    """What makes a sweep besides its picture; None stands for the model's or the format's default."""

    instruction: str
    num_strengths: int = 11
    format: str = "gif"
    model: str = "pocket"
    slider: str | None = None
    dtype: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    size: int | None = None
    fps: float | None = None
    duration: float | None = None
    bounce: bool = False
    lossless: bool = False
    captions: bool = False

    @property
    def strengths(self) -> list[float]:
        """Evenly spaced from 0 to 1."""
        return [k / (self.num_strengths - 1) for k in range(self.num_strengths)]


@dataclass(frozen=True)
class Task:
    """One picture and the file that its sweep goes to."""

    source: Path
    source_sha256: str
    target: Path


@dataclass(frozen=True)
class Plan:
    """What a batch will do, what is done already, and a sentence for each picture that nothing can be done for."""

    pending: list[Task]
    done: list[Task]
    problems: list[str]


def find_images(patterns: Iterable[str], out: Path) -> tuple[list[Path], list[str]]:
    """The pictures that files, folders (what is directly in them) and globs name, each once, and a sentence for each
    name that leads nowhere. Results that stand in `out` are not taken from folders and globs."""
    found: dict[Path, None] = {}  # in the order in which they are named
    problems = []
    results = {(out / name).absolute() for name in _listed_files(out / MANIFEST)}
    for pattern in patterns:
        named, is_search = _matches(pattern)
        pictures = [path for path in named if not is_search or path not in results]
        found.update(dict.fromkeys(pictures))
        if not pictures:
            problems.append(_leads_nowhere(pattern))
    return list(found), problems


def plan_sweeps(sources: Iterable[Path], options: SweepOptions, out: Path, overwrite: bool = False) -> Plan:
    """Sort pictures into those whose sweep stands in `out` already and those whose sweep is to be made.

    overwrite: make also again what is there.
    """
    plan = Plan([], [], [])
    for source in sources:
        try:
            task = plan_task(source, options, out)
        except UnreadableImage as error:
            plan.problems.append(str(error))
        else:
            (plan.done if not overwrite and is_done(task, options) else plan.pending).append(task)
    return plan


def plan_task(source: Path, options: SweepOptions, out: Path) -> Task:
    """The result's place. UnreadableImage when the source is no file that can be read."""
    try:
        with open(source, "rb") as file:
            source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableImage(f"{source} cannot be read ({error.strerror}): check the path and its rights.") from error
    folder = Path(options.model).expanduser()
    model = os.path.abspath(folder) if folder.is_dir() else options.model
    made_of = json.dumps([str(source), source_sha256, asdict(options) | {"model": model}], sort_keys=True)
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:10]
    return Task(source, source_sha256, out / f"{source.stem[:MAX_STEM]}-{digest}.{options.format}")


def is_done(task: Task, options: SweepOptions) -> bool:
    """Whether the task's file is there and says itself that it is this sweep."""
    if not task.target.exists():
        return False
    try:
        made = read_metadata(task.target)
    except InvalidInput:  # not one of ours, so it is made anew
        return False
    expected = {"instruction": options.instruction, "seed": options.seed, "strengths": options.strengths}
    return all(made.get(name) == value for name, value in expected.items())


def run_sweeps(
    engine: SliderEngine,
    tasks: Iterable[Task],
    options: SweepOptions,
    on_task: Callable[[Task], object] = lambda task: None,
    on_frame: Callable[[], object] = lambda: None,
) -> list[str]:
    """Make the sweeps and list each in its folder's manifest. Returns a sentence for each picture that failed.

    on_task, on_frame: called before each picture and after each finished frame.
    """
    problems = []
    for task in tasks:
        on_task(task)
        try:
            write_sweep(engine, task, options, on_frame)
            list_result(task)
        except KontextSliderError as error:
            problems.append(str(error) if str(task.source) in str(error) else f"{task.source}: {error}")
    return problems


def write_sweep(engine: SliderEngine, task: Task, options: SweepOptions, on_frame: Callable[[], object]) -> None:
    """Render and write one sweep; strength 0 shows the untouched source."""
    frames = []
    with engine.open(
        task.source, options.instruction, options.seed, options.steps, options.guidance, options.size
    ) as session:
        rendered = session.frames([strength for strength in options.strengths if strength != 0])
        for strength in options.strengths:
            frames.append((strength, session.source.copy() if strength == 0 else next(rendered)[1]))
            on_frame()
    save_sweep(
        frames,
        task.target,
        instruction=session.instruction,
        seed=session.seed,
        model=options.model,
        slider=options.slider,
        source=str(task.source),
        steps=session.steps,
        guidance=session.guidance,
        fps=options.fps,
        duration=options.duration,
        bounce=options.bounce,
        lossless=options.lossless,
        captions=options.captions,
    )


def list_result(task: Task) -> None:
    """Add the result's line to its folder's manifest unless it is there. A stop between a file and its line leaves
    a file without one; the file itself says how it was made."""
    manifest = task.target.with_name(MANIFEST)
    if task.target.name in _listed_files(manifest):
        return
    place = {"file": task.target.name, "source": str(task.source), "source_sha256": task.source_sha256}
    _append_line(manifest, json.dumps(read_metadata(task.target) | place))


def _listed_files(manifest: Path) -> set[str]:
    """Names that the manifest holds. A line that a kill cut short does not count: its result is listed again."""
    if not manifest.exists():
        return set()
    names = set()
    for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            names.add(json.loads(line)["file"])
        except (ValueError, KeyError, TypeError):
            continue
    return names


def _append_line(path: Path, line: str) -> None:
    """One write, so that two batches into one folder do not mix their lines; a cut last line is closed first."""
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        start = b"" if file.read(1) in (b"", b"\n") else b"\n"
        file.write(start + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def make_folder(out: Path) -> None:
    """The folder and those above it; InvalidInput where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"The folder {out} cannot be made ({error.strerror}): choose another.") from error


def _matches(pattern: str) -> tuple[list[Path], bool]:
    """What a word of the command line names, and whether it was searched for rather than named outright."""
    path = Path(os.path.abspath(Path(pattern).expanduser()))
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if _looks_like_image(file)], True
    if path.exists():
        return [path], False
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return [file for file in found if _looks_like_image(file)], True


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _leads_nowhere(pattern: str) -> str:
    if Path(pattern).expanduser().is_dir():
        return f"{pattern}: no pictures are in this folder; name one that holds some."
    return f"{pattern}: there is no such picture or folder; check the path."
