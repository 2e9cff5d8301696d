"""The upload of a photograph: any file goes to the server, whose reader alone says whether it is a photograph.

Browsers cannot show every photograph (HEIC, most of all), so the page shows a small picture that the server made.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder
from PIL import Image

from kontext_slider.errors import KontextSliderError
from kontext_slider.images import read_photo, working_size
from kontext_slider.ui.filmstrip import asset
from kontext_slider.ui.folder import check_room
from kontext_slider.ui.sentences import named, notice

# What the file dialogue offers. Systems that do not know HEIC as a picture need its endings, too.
ACCEPT = "image/*,.heic,.heif,.hif,.avif,.tif,.tiff,.webp,.bmp"
PREVIEW_SIDE = 320  # pixels


class Photograph(gr.HTML):
    """A place for a file. Value: `FileData`, as that of `gr.Image`; the handlers get the path.

    Event `change` with a new file, `refused` {"name": str, "reason": str} when it could not be sent.
    """

    data_model = FileData

    def __init__(self, value: str | None = None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=asset("photograph.html"),
            css_template=asset("photograph.css"),
            js_on_load=asset("photograph.js"),
            apply_default_css=False,
            accept=ACCEPT,
            **kwargs,
        )

    def preprocess(self, payload: FileData | None) -> str | None:  # type: ignore[override]
        return payload.path if payload is not None else None

    def postprocess(self, value: str | Path | None) -> FileData | None:  # type: ignore[override]
        return FileData(path=str(value), orig_name=Path(value).name) if value else None


def sizes(photograph: tuple[int, int], pipe: Any) -> str:
    """The sentence "4032 x 3024, edited at 304 x 224": sizes are (width, height) in pixels. Raises InvalidInput."""
    edited = working_size(photograph, pipe.defaults.size, 2 * pipe.vae_scale_factor)
    return f"{photograph[0]} x {photograph[1]}, edited at {edited[0]} x {edited[1]}"


def preview(picture: Image.Image, side: int = PREVIEW_SIDE) -> str:
    """A small RGB picture, at most `side` pixels a side, as an address that holds all of it."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def look(path: str | None, pipe: Any) -> str:
    """What the page shows of a chosen photograph: a preview, its name, its sizes. "" for none.

    Raises UnreadableImage and InvalidInput, with the name that the person knows the file by.
    """
    if not path:
        return ""
    with named(path):
        photo = read_photo(path)
        said = sizes(photo.image.size, pipe)
    picture, name = f'<img src="{preview(photo.on_white())}" alt="">', html.escape(photo.name)
    return f'<figure class="look">{picture}<figcaption><b>{name}</b> <span>{said}</span></figcaption></figure>'


class Looking:
    """The handlers of the upload. `pipe` says at which size it would edit."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def look(self, path: str | None) -> tuple[Any, Any, Any]:
        """Another photograph stands in the upload. Outputs: photograph, look, notice."""
        try:
            return gr.skip(), look(path, self.pipe), "" if path else gr.skip()
        except KontextSliderError as error:
            return None, "", notice(str(error), "error")

    def refused(self, event: gr.EventData) -> str:
        """A file that could not be sent becomes a sentence. Output: notice."""
        data = event._data if isinstance(event._data, dict) else {}
        name, reason = str(data.get("name", "The file"))[:200], str(data.get("reason", ""))[:300]
        try:
            check_room(get_upload_folder())  # gradio says of a full disk only that the server has failed
        except KontextSliderError as error:
            return notice(str(error), "error")
        except FileNotFoundError:  # not made yet, so the disk is not why
            pass
        return notice(f"{name} could not be sent to the server ({reason}). Try again, or choose another.", "error")
