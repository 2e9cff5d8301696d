"""What the page draws itself: the canvas (picture, slider, strip), clickable choices, the upload, and its sentences.

The components keep a fixed HTML skeleton and build the rest in the browser (`canvas.js`, `widgets.js`), so gradio never
redraws them: a late answer of the server cannot overwrite where the slider stands. A value only ever adds frames.
Scripts and styles are package data beside this module; the page fetches nothing from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.data_classes import FileData
from gradio_client.utils import is_http_url_like
from PIL import Image

from .canvas_data import CanvasData

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
    "slider.js",
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


def refuse_addresses(app: gr.Blocks) -> None:
    """Let no component of a page take an address in the place of a file, which gradio would fetch: nobody may make this
    server send requests. The endpoints for scripts and tools take public ones."""
    for block in app.blocks.values():
        if isinstance(block, gr.components.Component) and not isinstance(block, Api):
            block.async_move_resource_to_block_cache = partial(_take_file, block.async_move_resource_to_block_cache)


async def _take_file(move: Callable[..., Awaitable[str | None]], place: str | Path | None) -> str | None:
    """As gradio's `move`, for files alone."""
    if is_http_url_like(str(place)):
        raise gr.Error("The page takes a photograph as a file, not its address.")
    return await move(place)


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

    def preprocess(self, payload: FileData | None) -> str | None:  # type: ignore[override]
        return payload.path if payload is not None else None

    def postprocess(self, value: str | Path | None) -> FileData | None:  # type: ignore[override]
        return FileData(path=str(value), orig_name=Path(value).name) if value else None
