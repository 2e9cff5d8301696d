"""The two components of our own: the picture with its strength slider and strip, and a row of clickable sentences.

Both keep a fixed HTML skeleton and build the rest in the browser (`filmstrip.js`, `chips.js`), so gradio never redraws
them: what the hand has selected cannot be overwritten by a late answer of the server. A value only ever adds frames.
Files are the package data beside this module; the app fetches nothing from elsewhere.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from kontext_slider.ui.tab import OpenEdit, caption


class Frame(GradioModel):
    """A frame: strength in [0, 1], the address of its lossless picture, and whether it is only a preview."""

    strength: float
    file: FileData
    preview: bool = False


class Busy(GradioModel):
    """What is being done, as a sentence, and how much of it is done (0 to 1; None: unknown)."""

    text: str
    fraction: float | None = None


class FilmstripData(GradioModel):
    """Everything the browser needs of an edit. `edit` is 0 before the first; a smaller one than shown is stale.
    `caption` says whose frames these are: the inputs beside them may have changed since."""

    edit: int = 0
    instruction: str = ""
    caption: str = ""
    strengths: list[float] = []
    frames: list[Frame] = []
    busy: Busy | None = None


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return files("kontext_slider.ui").joinpath(name).read_text(encoding="utf-8")


def snapshot(edit: OpenEdit | None, busy: Busy | None = None) -> FilmstripData:
    """An edit as the browser gets it: always whole, so that messages may arrive in any order."""
    if edit is None:
        return FilmstripData(busy=busy)
    found = [(*frame, False) for frame in edit.files()] + [(*frame, True) for frame in edit.previews()]
    frames = [
        Frame(strength=strength, file=FileData(path=str(path)), preview=preview) for strength, path, preview in found
    ]
    recipe = edit.recipe
    return FilmstripData(
        edit=edit.serial,
        instruction=recipe.instruction,
        caption=caption(recipe),
        strengths=list(recipe.strengths),
        frames=frames,
        busy=busy,
    )


class Filmstrip(gr.HTML):
    """Large picture, strength slider, strip of frames. Event `commit`: {"edit": int, "strength": float} at rest."""

    data_model = FilmstripData

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            html_template=asset("filmstrip.html"),
            css_template=asset("filmstrip.css"),
            js_on_load=asset("filmstrip.js"),
            apply_default_css=False,
            **kwargs,
        )

    def preprocess(self, payload: Any) -> None:
        """The browser never sends frames back."""

    def postprocess(self, value: FilmstripData | None) -> FilmstripData:  # type: ignore[override]
        return value or FilmstripData()


class Chips(gr.HTML):
    """A row of sentences to click. Value: list[str]. Event `pick`: {"text": str}."""

    def __init__(self, value: list[str] | None = None, label: str = "", **kwargs: Any) -> None:
        super().__init__(
            value=value or [],
            label=label,
            html_template=asset("chips.html"),
            css_template=asset("chips.css"),
            js_on_load=asset("chips.js"),
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: list[str] | None) -> list[str]:  # type: ignore[override]
        return list(value or [])
