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

from kontext_slider.ui.tab import OpenEdit, Recipe, caption


class Frame(GradioModel):
    """A frame: strength in [0, 1], the address of its lossless picture, and whether it is only a preview."""

    strength: float
    file: FileData
    preview: bool = False


class Busy(GradioModel):
    """What is being done, as a sentence, and how much of it is done (0 to 1; None: unknown)."""

    text: str
    fraction: float | None = None


class EditInputs(GradioModel):
    """What an edit was opened with, so that a browser can ask for it again. `photograph` is the upload's path."""

    photograph: str
    instruction: str
    num_frames: int
    seed: int
    steps: int
    guidance: float | None = None


class FilmstripData(GradioModel):
    """Everything the browser needs of an edit. `edit` is 0 before the first; a smaller one than shown is stale.
    `caption` says whose frames these are: the inputs beside them may have changed since. By `key` and `inputs` the
    browser gets its edit back after it has lost the connection; `is_lost` asks it to do so. `said` is a sentence about
    that."""

    edit: int = 0
    key: str = ""
    inputs: EditInputs | None = None
    is_lost: bool = False
    said: str = ""
    instruction: str = ""
    caption: str = ""
    strengths: list[float] = []
    frames: list[Frame] = []
    busy: Busy | None = None


def asset(name: str) -> str:
    """The text of a file beside this module."""
    return files("kontext_slider.ui").joinpath(name).read_text(encoding="utf-8")


def snapshot(edit: OpenEdit | None, busy: Busy | None = None, said: str = "") -> FilmstripData:
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
        key=edit.key,
        said=said,
        inputs=_inputs(recipe),
        instruction=recipe.instruction,
        caption=caption(recipe),
        strengths=list(recipe.strengths),
        frames=frames,
        busy=busy,
    )


def _inputs(recipe: Recipe) -> EditInputs | None:
    """None for an edit of no upload: the page opens with it anyway."""
    if not recipe.photograph:
        return None
    return EditInputs(
        photograph=recipe.photograph,
        instruction=recipe.instruction,
        num_frames=len(recipe.strengths),
        seed=recipe.seed,
        steps=recipe.steps,
        guidance=recipe.guidance,
    )


class Filmstrip(gr.HTML):
    """Large picture, strength slider, strip of frames. Event `commit`: {"edit": int, "strength": float} at rest.
    Event `reopen`: {"key": str, **EditInputs} when the browser has kept an edit that is not here."""

    data_model = FilmstripData

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            html_template=asset("filmstrip.html"),
            css_template=asset("filmstrip.css"),
            js_on_load=asset("keep.js") + asset("reach.js") + asset("filmstrip.js"),
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
