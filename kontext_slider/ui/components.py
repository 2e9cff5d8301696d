"""What the page draws itself: the canvas (picture, slider, strip), clickable choices, the upload, and its sentences.

The components keep a fixed HTML skeleton and build the rest in the browser (`canvas.js`, `widgets.js`), so gradio never
redraws them: a late answer of the server cannot overwrite where the slider stands. A value only ever adds frames.
Scripts and styles are package data beside this module; the page fetches nothing from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel
from gradio_client.utils import is_http_url_like
from PIL import Image

from ..edit import EarlierEdit
from ..engine.response import breaks, dead_zones, jumps, stops_growing
from .open_edit import BEYOND, SEEN, LayerInputs, OpenEdit

# What the file dialogue offers. Systems that do not know HEIC as a picture need its endings, too.
# Animations and archives that were saved here open their edit again.
ACCEPT = "image/*,.heic,.heif,.hif,.avif,.tif,.tiff,.webp,.bmp,.mp4,.zip"
CANVAS_SCRIPTS = (
    "keep.js",
    "transfer_file.js",
    "transfer_layers.js",
    "transfer_mixer.js",
    "transfer_shader.js",
    "view_place.js",
    "transfer_view.js",
    "view_gestures.js",
    "picture.js",
    "strip.js",
    "scale.js",
    "tools.js",
    "canvas.js",
    "compare.js",
    "response.js",
    "brush_shapes.js",
    "strength_map.js",
    "strength_map_file.js",
    "edge_aware.js",
    "brush_maps.js",
    "brush_marks.js",
    "brush_drawing.js",
    "brush_panel.js",
    "brush_pointer.js",
    "brush.js",
    "zoom.js",
    "out.js",
    "chain_composer.js",
    "chain.js",
    "history_store.js",
    "history.js",
    "out_tools.js",
)
UPLOAD = """<label class="drop">
  <input type="file" aria-label="Photograph">
  <span class="invite"><b>Choose a photograph</b> <span>or drop or paste one here</span></span>
  <span class="wait" role="status"></span>
</label>"""


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
    edit back after it has lost the connection; `is_lost` makes it do so, and `said` is a sentence about that.
    strengths: of the strip. highest: strength that the slider may have.
    caption: whose frames these are, as the inputs beside them may have changed since.
    photograph: as the browser draws it, and its own `size` in pixels; None before the browser may draw the edit itself.
    strength: where the slider stands when the edit begins; None: where it is. strength_map: what is painted then, as
    `metadata.pack_map` makes it, "" for nothing; None: as it is. example: the shipped example that the photograph is,
    "" for others.
    below, base: of a list of edits, those before the last, and the photograph of the first. is_refused: the list that
    the browser has sent could not be done.
    source: a result that has become the photograph in the upload.
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
    is_refused: bool = False
    source: FileData | None = None
    busy: Busy | None = None


def describe(edit: OpenEdit | None, busy: Busy | None = None, said: str = "") -> CanvasData:
    """An edit as the browser gets it: always whole, so that messages may arrive in any order."""
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
        said=said,
        caption=caption(inputs, session.photo.name, session.photo.earlier_edits),
        example=edit.example,
        strengths=[*edit.strengths, *(BEYOND if edit.highest > 1 else ())],
        highest=edit.highest,
        frames=frames_of(edit.files(), edit.transfers()) + frames_of(edit.previews(), preview=True),
        photograph=edit.screen and FileData(path=str(edit.screen)),
        size=list(session.photo.image.size),
        gaps=[Gap(low=low, high=high, error=error) for (low, high), error in edit.errors().items()],
        curve=curve_of(edit),
        below=[
            BelowFrames(place=each.place, frames=frames_of(each.edit.files(), each.edit.transfers()))
            for each in edit.below
        ],
        base=first and first.screen and FileData(path=str(first.screen)),
        busy=busy,
    )


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
        breaks=breaks({s: share for s, share in edit.detail_shares().items() if s <= edit.highest}),
    )


def frames_of(
    paths: Iterable[tuple[float, Path]], transfers: Mapping[float, Path] | None = None, preview: bool = False
) -> list[Frame]:
    """(strength, file) pairs as the browser gets them, with the files of their transfers."""

    def transfer_of(strength: float) -> FileData | None:
        path = (transfers or {}).get(strength)
        return path and FileData(path=str(path))

    return [
        Frame(strength=strength, file=FileData(path=str(path)), transfer=transfer_of(strength), preview=preview)
        for strength, path in paths
    ]


def caption(inputs: EditInputs, source: str, earlier_edits: Sequence[EarlierEdit] = ()) -> str:
    """Whose frames these are, as the page says it. source: the photograph's file name."""
    before = "".join(f"{edit.instruction} {edit.strength:.2f}, then " for edit in earlier_edits)
    return f"{before}{inputs.instruction} · {source} · seed {inputs.seed}"


def notice(text: str, kind: str = "error") -> str:
    """A sentence as the page shows it; `kind` is "advice" or "error"."""
    return f'<p class="notice {kind}" role="alert">{html.escape(text)}</p>' if text else ""


def note(*sentences: str) -> str:
    """The sizes, or what was saved, as the page shows it beside the button."""
    return f'<p class="saved" role="status">{html.escape(" ".join(filter(None, sentences)))}</p>'


def thumbnail(picture: Image.Image, side: int = 320) -> str:
    """A small RGB picture, at most `side` pixels a side, as an address that holds all of it."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return files("kontext_slider.ui").joinpath(name).read_text(encoding="utf-8")


class Canvas(gr.HTML):
    """Large picture, strength slider, strip of frames.

    Events: `commit` {"edit": int, "strength": float}, the slider rests where an interpolation would be seen. `reopen`
    {"key": str, **EditInputs}, the browser has kept an edit that is not here. `draw` {"edit": int}, it can draw the
    edit that the page opens with. `complete` {"edit": int}, it cannot draw, and needs all frames of the strip. `tile`
    {"edit": int, "box": [left, top, right, bottom]}, it needs a part of the photograph, in pixels, at its own size.
    `another` {"edit": int, "path": str}, the edit shall be made of another photograph. `follow` {name: text}, what the
    page's address names (`links.py`). `use` (`sources.py`), the picture is to be the source. `fill`, the history has
    set the inputs. `chain`, the list of edits has changed. `beyond` {"edit": int, "on": bool}, the slider shall go
    beyond the full edit, or not any more."""

    data_model = CanvasData

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            html_template=asset("canvas.html"),
            js_on_load="".join(map(asset, CANVAS_SCRIPTS)) + "start();",
            apply_default_css=False,
            accept=ACCEPT,
            **kwargs,
        )

    def preprocess(self, payload: Any) -> None:
        """The browser never sends frames back."""

    def postprocess(self, value: CanvasData | None) -> CanvasData:  # type: ignore[override]
        return value or CanvasData()


def choices(value: list[Any], look: str = "chips", **kwargs: Any) -> gr.HTML:
    """Buttons to click: sentences, or pictures with a sentence each. Event `pick`: {"text": str, "index": int}.

    value: a list of str, or of {"text": str, "image": an address}. look: "chips" or "gallery", a class of the style.
    """
    template, script = f'<div class="{look}" role="group"></div>', asset("widgets.js") + "choices();"
    return gr.HTML(value, html_template=template, js_on_load=script, apply_default_css=False, **kwargs)


class Photograph(gr.HTML):
    """A place for any file: the server alone says whether it is a photograph. Value: a path.

    Events: `change` with a new photograph, `arrived` {"path": str} with any file that was sent, `refused`
    {"name": str, "reason": str} when it could not be sent.
    """

    data_model = FileData

    def __init__(self, value: str | None = None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=UPLOAD,
            js_on_load=asset("widgets.js") + "photograph();",
            apply_default_css=False,
            accept=ACCEPT,
            **kwargs,
        )

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Gradio's own fetches addresses, too: nobody may make this server send requests."""
        if is_http_url_like(str(url_or_file_path)):
            raise gr.Error("The page takes a photograph as a file, not its address.")
        return await super().async_move_resource_to_block_cache(url_or_file_path)

    def preprocess(self, payload: FileData | None) -> str | None:  # type: ignore[override]
        return payload.path if payload is not None else None

    def postprocess(self, value: str | Path | None) -> FileData | None:  # type: ignore[override]
        return FileData(path=str(value), orig_name=Path(value).name) if value else None
