"""What the browser gets of an edit, as values that gradio sends: the canvas component's data (`components.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gradio.data_classes import FileData, GradioModel

from ..edit import EarlierEdit
from ..engine.response import breaks, dead_zones, jumps, stops_growing
from .open_edit import BEYOND, SEEN, LayerInputs, OpenEdit


class Frame(GradioModel):
    """A frame: strength in [0, 1], the addresses of its lossless picture and of its transfer, and whether it is only a
    preview. There is no transfer at strength 0, of a preview, and of the shipped frames that the page opens with."""

    strength: float
    file: FileData
    transfer: FileData | None = None
    preview: bool = False


class Gap(GradioModel):
    """Two neighbouring finished strengths, and how wrong an interpolation between them may be, in levels of 255."""

    low: float
    high: float
    error: float


class Curve(GradioModel):
    """The response curve (`engine/response.py`): strengths, distances to the source and changes up to there, in levels
    of 255. dead, jumps: stretches of strengths, from and to. is_flat: too little changes to say where. stops, breaks:
    the strengths beyond 1 from which the edit no longer grows, and at which it breaks."""

    strengths: list[float]
    distances: list[float]
    changes: list[float]
    is_flat: bool
    dead: list[list[float]]
    jumps: list[list[float]]
    stops: float | None
    breaks: float | None


class Tile(GradioModel):
    """A part of the photograph at its own size: left, top, width and height as shares of the photograph's."""

    file: FileData
    x: float
    y: float
    width: float
    height: float


class Busy(GradioModel):
    """What is being done, as a sentence, and how much of it is done (0 to 1; None: unknown)."""

    text: str
    fraction: float | None = None


class EditInputs(GradioModel):
    """What an edit was opened with. `photograph` is the upload's path, "" for the edit that the page opens with.
    `layers`: of a list of edits all of them; the other settings are those of its last one that is on."""

    photograph: str
    instruction: str
    num_frames: int
    seed: int
    steps: int
    guidance: float
    layers: list[LayerInputs] = []


class BelowFrames(GradioModel):
    """Frames of an edit that stands below the page's, for the browser to draw; place: in the list of edits."""

    place: int
    frames: list[Frame]


class CanvasData(GradioModel):
    """Everything the browser needs of an edit.

    edit: its serial; 0 before the first; a smaller one than shown is stale. key, inputs: by these the browser gets its
    edit back after it has lost the connection; `is_lost` makes it do so, and `said` is a sentence about that, to be
    shown once. strengths: of the strip. highest: strength that the slider may have.
    caption: whose frames these are, as the inputs beside them may have changed since.
    photograph: as the browser draws it, and its own `size` in pixels; None before the browser may draw the edit itself.
    strength: where the slider stands when the edit begins; None: where it is. strength_map: what is painted then, as
    `metadata.pack_map` makes it, "" for nothing; None: as it is. example: the shipped example that the photograph is,
    "" for others.
    below, base: of a list of edits, those before the last, and the photograph of the first. num_refused: how many lists
    that the browser has sent could not be done; -1 where the edit that one was sent for is not open any more.
    tile, source: the newest part at full size, and the newest result that has become the photograph in the upload.
    gaps: what may be interpolated. curve: how the edit responds to the strength.
    seen: levels; an interpolation error below is not seen.
    """

    edit: int = 0
    key: str = ""
    inputs: EditInputs | None = None
    is_lost: bool = False
    said: str = ""
    caption: str = ""
    strength: float | None = None
    example: str = ""
    strength_map: str | None = None
    strengths: list[float] = []
    highest: float = 1
    frames: list[Frame] = []
    photograph: FileData | None = None
    size: list[int] = []
    gaps: list[Gap] = []
    seen: float = SEEN
    curve: Curve | None = None
    tile: Tile | None = None
    below: list[BelowFrames] = []
    base: FileData | None = None
    num_refused: int = 0
    source: FileData | None = None
    busy: Busy | None = None


def describe(edit: OpenEdit | None, busy: Busy | None = None) -> CanvasData:
    """An edit as the browser gets it: always whole, so that messages may arrive in any order, or not at all where
    another one follows (gradio draws the newest of those that come together)."""
    if edit is None:
        return CanvasData(busy=busy)
    session = edit.session
    inputs = EditInputs(
        photograph=edit.photograph,
        instruction=session.instruction,
        num_frames=len(edit.strengths),
        seed=session.seed,
        steps=session.steps,
        guidance=session.guidance,
        layers=edit.layers,
    )
    first = edit.below[0].edit if edit.below else None
    return CanvasData(
        edit=edit.serial,
        key=edit.key,
        inputs=inputs,
        said=edit.said,
        caption=caption(inputs, session.photo.name, session.photo.earlier_edits),
        example=edit.example,
        strengths=[*edit.strengths, *(BEYOND if edit.highest > 1 else ())],
        highest=edit.highest,
        frames=finished_frames(edit) + frames_of(edit.previews(), preview=True),
        photograph=file_of(edit.folder.screen),
        size=list(session.photo.image.size),
        gaps=[Gap(low=low, high=high, error=error) for (low, high), error in edit.errors().items()],
        curve=curve_of(edit),
        below=[BelowFrames(place=each.place, frames=finished_frames(each.edit)) for each in edit.below],
        tile=tile_of(edit),
        num_refused=edit.num_refused,
        base=first and file_of(first.folder.screen),
        source=file_of(edit.source),
        busy=busy,
    )


def tile_of(edit: OpenEdit) -> Tile | None:
    """The newest part of the photograph at its own size that the browser has asked for."""
    if (newest := edit.folder.newest_tile) is None or (file := file_of(newest[1])) is None:
        return None
    (left, top, right, bottom), (columns, rows) = newest[0], edit.session.photo.image.size
    return Tile(
        file=file,
        x=left / columns,
        y=top / rows,
        width=(right - left) / columns,
        height=(bottom - top) / rows,
    )


def file_of(path: Path | None) -> FileData | None:
    """A file as gradio serves it; None for one that somebody has deleted."""
    return FileData(path=str(path)) if path is not None and path.exists() else None


def curve_of(edit: OpenEdit) -> Curve | None:
    """The response curve of an edit as the browser gets it, None before there is one."""
    if (response := edit.response()) is None:
        return None
    whole = response.up_to(1)
    return Curve(
        strengths=list(response.strengths),
        distances=list(response.distances),
        changes=list(response.changes),
        is_flat=response.is_flat,
        dead=[list(stretch) for stretch in dead_zones(whole)],
        jumps=[list(stretch) for stretch in jumps(whole)],
        stops=stops_growing(response),
        breaks=breaks({strength: frame.detail_share for strength, frame in edit.frames()}),
    )


def finished_frames(edit: OpenEdit) -> list[Frame]:
    """Frames as the browser gets them, with their transfers."""
    return [
        Frame(strength=strength, file=FileData(path=str(files.picture)), transfer=file_of(files.transfer))
        for strength, files in edit.frames()
    ]


def frames_of(paths: Iterable[tuple[float, Path]], preview: bool = False) -> list[Frame]:
    """(strength, file) pairs without transfers as the browser gets them."""
    return [Frame(strength=strength, file=FileData(path=str(path)), preview=preview) for strength, path in paths]


def caption(inputs: EditInputs, source: str, earlier_edits: Sequence[EarlierEdit] = ()) -> str:
    """Whose frames these are, as the page says it. source: the photograph's file name."""
    before = "".join(f"{edit.instruction} {edit.strength:.2f}, then " for edit in earlier_edits)
    return f"{before}{inputs.instruction} · {source} · seed {inputs.seed}"
