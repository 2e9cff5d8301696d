"""A sweep for each of many pictures, which can be stopped and started again.

A result's name ends in a digest of all that made it: the picture's place and bytes, instruction, strengths, model and
every option. So a name that is there already means that just this work is done; other options give other names.
`manifest.jsonl` beside the results has one line for each of them.

What goes wrong with one picture becomes a sentence and the batch goes on; at a full or read-only disk it stops.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine.order import grid
from .engine.response import NUM_MEASURED, even_strengths, measure_response
from .errors import DiskError, InvalidInput, KontextSliderError, UnreadableImage
from .export import ANIMATIONS, FPS, Frame, is_whole, save_sweep
from .files import append_json_line, cut_to_bytes, file_sha256, json_sha256, open_regular, read_json_lines, sha256_of
from .metadata import read_metadata, recipe
from .photo.limits import MAX_FILE
from .photo.opener import RAW_SUFFIXES

if TYPE_CHECKING:
    from .engine import SliderEngine
    from .engine.session import EditSession

MANIFEST = "manifest.jsonl"
MAX_STEM = 120  # bytes of the source's name in the result's name: an encrypted folder's names have 143 in all
MAX_WIDTH = 1024  # pixels of an animation's frame, unless a width is asked for
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"),
    *RAW_SUFFIXES,
)


@dataclass(frozen=True)
class SweepOptions:
    """What makes a sweep besides its picture; None stands for the model's or the format's default.

    All that changes a pixel belongs here, as a result's name is made of it. Flags that are left out change at most the
    rounding (device, low_vram) or nothing in the file.
    """

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
    fps: float = FPS
    full_size: bool = False
    width: int | None = None
    speed: str = "exact"
    quantize: str | None = None
    compile: bool | None = None
    even: bool = False  # strengths at even steps of the picture's change, which is measured first
    earlier_edits: tuple[tuple[str, float], ...] = ()  # instruction and strength of edits before the one that is swept

    @property
    def strengths(self) -> list[float]:
        """Evenly spaced from 0 to 1: those of the file, unless its steps are `even`."""
        return grid(self.num_strengths)

    @property
    def num_frames(self) -> int:
        """Frames that are asked of the model for each picture, those of the measurement included."""
        return self.num_strengths + (NUM_MEASURED if self.even else 0)

    def facts(self) -> dict[str, Any]:
        """What a result's name is made of, by name. A name that an earlier version gave stays the same."""
        return {name: value for name, value in asdict(self).items() if name not in ("even", "earlier_edits") or value}

    @property
    def from_full_size(self) -> bool:
        """Whether the file shows the photograph at its own size, perhaps scaled down, or the model's frames."""
        return self.full_size or self.format in ANIMATIONS


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


def find_images(patterns: Iterable[str], leave_out: Collection[Path] = ()) -> tuple[list[Path], list[str]]:
    """The pictures that files, folders (what is directly in them) and globs name, each once, and a sentence for each
    name that leads nowhere. `leave_out` (absolute paths) are not taken from folders and globs."""
    found: dict[Path, None] = {}  # in the order in which they are named
    problems = []
    for pattern in patterns:
        path = Path(os.path.abspath(os.path.expanduser(pattern)))
        try:
            is_folder = os.path.isdir(path)
            if os.path.exists(path) and not is_folder:
                pictures = [path]
            else:
                searched = sorted(path.iterdir() if is_folder else map(Path, glob.glob(str(path), recursive=True)))
                pictures = [file for file in searched if is_image(file) and file not in leave_out]
        except OSError as error:
            problems.append(f"{pattern} cannot be listed ({error.strerror}): check its rights.")
            continue
        found.update(dict.fromkeys(pictures))
        if not pictures:
            empty = "no pictures are in this folder; name one that holds some."
            absent = "there is no such picture or folder; check the path."
            problems.append(f"{pattern}: {empty if is_folder else absent}")
    return list(found), problems


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and os.path.isfile(path)


def plan_sweeps(sources: Iterable[Path], options: SweepOptions, out: Path) -> Plan:
    """Sort pictures into those whose sweep stands in `out` already and those whose sweep is to be made."""
    plan, listed = Plan([], [], []), listed_results(out)
    for source in sources:
        try:
            task = plan_task(source, options, out)
        except UnreadableImage as error:
            plan.problems.append(str(error))
        else:
            (plan.done if is_done(task, options, listed.get(task.target.absolute())) else plan.pending).append(task)
    return plan


def plan_task(source: Path, options: SweepOptions, out: Path) -> Task:
    """The result's place. UnreadableImage when the source is no file that can be read."""
    with open_regular(source, MAX_FILE, UnreadableImage, str(source)) as file:
        try:
            source_sha256 = sha256_of(file)
        except OSError as error:
            raise UnreadableImage(f"{source} cannot be read ({error.strerror}): check its rights.") from error
    folder = Path(os.path.expanduser(options.model))
    model = os.path.abspath(folder) if os.path.isdir(folder) else options.model
    digest = json_sha256([str(source), source_sha256, options.facts() | {"model": model}])[:10]
    return Task(source, source_sha256, out / f"{cut_to_bytes(source.stem, MAX_STEM)}-{digest}.{options.format}")


def is_done(task: Task, options: SweepOptions, sha256: str | None) -> bool:
    """Whether the task's file is there, whole, and says itself that it is this sweep.

    sha256: its digest as the manifest has it; without one its frames are decoded and counted."""
    if not os.path.exists(task.target):
        return False
    try:
        made = read_metadata(task.target)
        if sha256 is not None and file_sha256(task.target) != sha256:
            return False
    except (InvalidInput, OSError):  # not one of ours, so it is made anew
        return False
    if sha256 is None and not is_whole(task.target, options.num_strengths):
        return False
    expected: dict[str, Any] = {"instruction": options.instruction, "seed": options.seed}
    if options.even:  # only the model can say which strengths these are
        num_made = len(made.get("strengths", []))
        return made == made | expected | {"even_steps": True} and num_made == options.num_strengths
    return made == made | expected | {"strengths": options.strengths}


def run_sweeps(
    engine: SliderEngine,
    tasks: Iterable[Task],
    options: SweepOptions,
    on_task: Callable[[Task], object] = lambda task: None,
    on_frame: Callable[[], object] = lambda: None,
) -> tuple[int, list[str]]:
    """Make the sweeps and list each in its folder's manifest. A disk that takes no more files ends the batch.

    on_task, on_frame: called before each picture and after each finished frame.

    Returns how many were written, and a sentence for each thing that went wrong.
    """
    num_written, problems, tasks = 0, [], list(tasks)
    for number, task in enumerate(tasks, start=1):
        on_task(task)
        try:
            write_sweep(engine, task, options, on_frame)
            num_written += 1
            list_result(task)
        except DiskError as error:
            left = len(tasks) - number
            problems.append(f"{error} The batch stops here, {left} more to go: the same command goes on from them.")
            break
        except KontextSliderError as error:
            problems.append(str(error) if str(task.source) in str(error) else f"{task.source}: {error}")
    return num_written, problems


def write_sweep(engine: SliderEngine, task: Task, options: SweepOptions, on_frame: Callable[[], object]) -> None:
    """Render and write one sweep, frame by frame."""
    settings: dict[str, Any] = {
        "seed": options.seed,
        "steps": options.steps,
        "guidance": options.guidance,
        "size": options.size,
    }
    with engine.open_chain(task.source, options.earlier_edits, options.instruction, **settings) as session:
        strengths = _even_strengths(session, options, on_frame) if options.even else options.strengths
        save_sweep(
            _frames(session, strengths, options, on_frame),
            task.target,
            strengths=strengths,
            source=str(task.source),
            facts=_facts(session, options),
            fps=options.fps,
        )


def _even_strengths(session: EditSession, options: SweepOptions, on_frame: Callable[[], object]) -> list[float]:
    """Measure how the picture changes, and give the strengths at even steps of that."""

    def measured() -> Iterator[Frame]:
        for frame in session.sweep(NUM_MEASURED):
            yield frame
            on_frame()

    return even_strengths(measure_response(measured()), options.num_strengths)


def _frames(
    session: EditSession, strengths: list[float], options: SweepOptions, on_frame: Callable[[], object]
) -> Iterator[Frame]:
    """One by one, as the file shows them."""
    widest = None if options.full_size else options.width or MAX_WIDTH
    for strength, frame in session.frames(strengths):
        yield strength, session.picture(strength, width=widest) if options.from_full_size else frame
        on_frame()


def _facts(session: EditSession, options: SweepOptions) -> dict[str, Any]:
    """What the file tells: how the edit was made, and what to know of it at the photograph's size."""
    facts = recipe(session, options.model, options.slider, options.speed, options.quantize)
    facts |= {"even_steps": True} if options.even else {}
    return facts | session.full_size_facts(1.0) if options.from_full_size else facts


def list_result(task: Task) -> None:
    """Add the result's line to its folder's manifest unless it is there. A stop between a file and its line leaves
    a file without one; the file itself says how it was made. Raises InvalidInput, or DiskError, with a sentence."""
    out = task.target.parent
    known = listed_results(out).get(task.target.absolute(), "")
    sha256 = _digest(task.target)
    if known not in (None, sha256):  # None: a line of an earlier version, without a digest
        place = {"file": task.target.name, "source": str(task.source), "source_sha256": task.source_sha256}
        append_json_line(out / MANIFEST, read_metadata(task.target) | place | {"result_sha256": sha256})


def _digest(result: Path) -> str:
    try:
        return file_sha256(result)
    except OSError as error:
        raise InvalidInput(f"{result} cannot be read ({error.strerror}): check the folder and its rights.") from error


def listed_results(out: Path) -> dict[Path, str | None]:
    """The absolute paths of what the manifest of a folder names (results, which are no pictures to edit), and their
    digests as the last line about each has them. A line that is cut short or damaged does not count."""
    lines = [line for line in read_json_lines(out / MANIFEST) if isinstance(line, dict)]
    digests: dict[Path, str | None] = {}
    for line in lines:
        if isinstance(line.get("file"), str) and "\0" not in line["file"]:
            sha256 = line.get("result_sha256")
            digests[(out / line["file"]).absolute()] = sha256 if isinstance(sha256, str) else None
    return digests
