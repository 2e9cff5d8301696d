"""How a visitor saves: one picture at the photograph's own size, or the sweep as an animation or archive.

Every picture comes from `session.picture`. A file is written into the folder of its edit, from which the browser
fetches it. Gradio checks that a value from the browser is one that its widget offers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ..edit import MAX_STRENGTH, check_num_frames
from ..engine import grid
from ..engine.full_size import nodes_of
from ..engine.response import even_strengths
from ..errors import InvalidInput, KontextSliderError
from ..export import save_sweep
from ..metadata import chain_facts, describe, edit_facts, read_metadata
from ..picture_file import JPEG_QUALITY, picture_name, save_picture
from . import messages
from .canvas_data import Busy
from .components import note, notice
from .handlers import MAX_FRAMES, Handlers
from .messages import Message, message
from .open_edit import SEEN, OnStep, OpenEdit

SWEEP_FORMATS = {"gif": "GIF", "webp": "WebP", "mp4": "MP4", "zip": "ZIP"}
PICTURE_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WebP"}
FULL_SIZE = 0  # as a width: the photograph's own
WIDTHS = (640, 1024, 1920, FULL_SIZE)  # of a sweep's pictures, at most, in pixels
WIDTH = 1024  # unless another is chosen
PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

# gradio mounts the button after the event has ended, which takes seconds on a busy machine; after a failed export it
# stays hidden, and a newer save ends the wait
START_DOWNLOAD = """() => {
  const save = (window.newestSave = {});
  const press = (tries) => {
    if (window.newestSave !== save) return;
    const button = document.querySelector('#download');
    if (button) setTimeout(() => button.click(), 50);
    else if (tries > 0) setTimeout(() => press(tries - 1), 100);
  };
  press(200);
}"""
# The first input of a save: what stands on the slider at the moment of the press, which the canvas has in its dataset,
# and the map that was painted (brush.js).
READ_SLIDER = """async (...values) => {
  const stage = document.querySelector('#filmstrip .stage');
  const { edit, strength, even } = stage.dataset;
  const painted = stage.strengthMap && (await stage.strengthMap());
  const slider = { edit: Number(edit || 0), strength: Number(strength), even: even === "true" };
  return [{ ...slider, ...(painted && { strength_map: painted }) }, ...values.slice(1, %d)];
}"""


class Saving:
    """The save handlers. `origin`: model, slider and speed by name, for the files' metadata.

    place: what stands on the slider: {"edit": int, "strength": float, "even": bool}, the last for even steps, and where
        the strength is painted, "strength_map": str, as `metadata.pack_map` makes it.
    """

    def __init__(self, handlers: Handlers, **origin: str | None) -> None:
        self.handlers = handlers
        self.origin = origin

    def picture(
        self, place: Any, suffix: str, quality: Any, keep_profile: bool, keep_location: bool, request: gr.Request
    ) -> Iterator[Message]:
        """Write the picture on the slider at the photograph's own size."""
        options = picture_options(suffix, quality, keep_profile, keep_location)
        yield from self._save(request, place, partial(self._write_picture, suffix, options))

    def sweep(self, suffix: str) -> Callable[..., Iterator[Message]]:
        """The handler that completes the sweep and writes it. Gradio knows a generator by its function."""

        def handler(place: Any, num_frames: Any, width: int, request: gr.Request) -> Iterator[Message]:
            is_even = isinstance(place, dict) and place.get("even") is True
            yield from self._save(request, place, partial(self._write_sweep, suffix, num_frames, width, is_even))

        return handler

    def _save(self, request: gr.Request, place: Any, write: Callable[..., Iterator[Any]]) -> Iterator[Message]:
        try:
            if not isinstance(place, dict) or not place.get("edit"):
                raise InvalidInput("There is nothing to save yet; press Edit first.")
            edit, strength, share = self.handlers.placed(request, place)
        except KontextSliderError as error:
            yield message(notice=notice(str(error)), download=messages.no_download())
            return
        yield message(notice=edit.remark, note=note(edit.sizes), download=messages.no_download())
        yield from self.handlers.do(request, edit, write(edit, strength, share))

    def _write_picture(
        self, suffix: str, options: dict[str, Any], edit: OpenEdit, strength: float, share: np.ndarray | None
    ) -> Iterator[Any]:
        """Renders first what is missing, as a frame of the strip does: a later move of the slider cannot end it."""
        yield from _fill(edit, strength, share)
        width, height = edit.session.photo.image.size
        yield Busy(text=f"Writing the {PICTURE_FORMATS[suffix]}, {width} x {height}")
        path, left_out, warning = write_picture(
            edit.session, edit.folder.path, strength, suffix, self.origin, share, **options
        )
        saved = f"Saved {width} x {height} at strength {strength:.2f}{_painted(share)}."
        yield _saved(path, PICTURE_FORMATS[suffix], saved, left_out, warning)

    def _write_sweep(
        self,
        suffix: str,
        num_frames: Any,
        width: int,
        is_even: bool,
        edit: OpenEdit,
        _: float,
        share: np.ndarray | None,
    ) -> Iterator[Any]:
        strengths = grid(check_num_frames(messages.whole(num_frames), MAX_FRAMES))
        if is_even:
            yield from messages.fill(edit, len(edit.strengths), SEEN)  # as the page does: its slider has the same steps
            response = edit.response()
            strengths = even_strengths(response.up_to(1), len(strengths)) if response else strengths
        if share is not None:
            yield from _fill(edit, strengths[-1], share)
        else:
            yield from messages.fill_each(edit, strengths) if is_even else messages.fill(edit, len(strengths))
        results: list[tuple[Path, str]] = []

        def write(on_picture: OnStep) -> None:
            origin = self.origin | ({"even_steps": True} if is_even else {})
            results.append(
                write_sweep(edit.session, edit.folder.path, strengths, suffix, width, origin, on_picture, share)
            )

        yield from messages.render(write, f"Writing the {SWEEP_FORMATS[suffix]}", unit="picture")
        path, warning = results[0]
        columns, rows = read_metadata(path)["size"]
        saved = f"Saved {len(strengths)} pictures of {columns} x {rows}{_painted(share)}."
        yield _saved(path, SWEEP_FORMATS[suffix], saved, warning)


def picture_options(suffix: str, quality: Any, keep_profile: bool, keep_location: bool) -> dict[str, Any]:
    """What `save_picture` gets, of the values of the page's widgets."""
    is_lossless = suffix == "png" or (suffix == "webp" and quality == 100)
    lossy = None if is_lossless else messages.whole(quality)
    return {"keep_profile": keep_profile, "keep_location": keep_location, "quality": lossy}


def write_picture(
    session: Any,
    folder: Path,
    strength: float,
    suffix: str,
    origin: Mapping[str, Any],
    share: np.ndarray | None = None,
    **options: Any,
) -> tuple[Path, str, str]:
    """Write the picture at `strength`, at the photograph's own size, into `folder`. origin: more facts for its recipe;
    share: (h, w) in [0, 1], of the strength, at every place, all of it without; options: those of `save_picture`.

    Returns the file, a sentence about metadata that was left out, and a warning, each "" if there is none.
    """
    picture, facts = session.picture(_shared(strength, share)), _facts(session, strength, origin, share)
    path = folder / picture_name(session.photo.name, session.instruction, strength, suffix, session.photo.earlier_edits)
    metadata = describe([strength], picture.size, session.photo.name, facts)
    left_out = save_picture(picture, path, metadata, photo=session.photo, **options)
    return path, left_out, facts.get("warning", "")


def write_sweep(
    session: Any,
    folder: Path,
    strengths: Sequence[float],
    suffix: str,
    width: int,
    origin: Mapping[str, Any],
    on_picture: OnStep,
    share: np.ndarray | None = None,
) -> tuple[Path, str]:
    """Write the pictures at `strengths`, at most `width` pixels wide (`FULL_SIZE`: the photograph's own), into one file
    in `folder`. `on_picture` counts them; `share` as in `write_picture`. Returns the file and a warning, "" if there
    is none."""
    facts = _facts(session, strengths[-1], origin, share)
    path = folder / f"{file_stem(session.instruction)}.{suffix}"

    def pictures() -> Iterator[tuple[float, Image.Image]]:
        for number, strength in enumerate(strengths):
            on_picture(number + 1, len(strengths))
            yield strength, session.picture(_shared(strength, share), width=width or None)

    save_sweep(pictures(), path, strengths=strengths, source=session.photo.name, facts=facts)
    return path, facts.get("warning", "")


def _shared(strength: float, share: np.ndarray | None) -> float | np.ndarray:
    """What a session makes a picture at: one strength, or a strength for every place."""
    return strength if share is None or strength == 0 else strength * share


def _fill(edit: OpenEdit, strength: float, share: np.ndarray | None) -> Iterator[Busy]:
    """Render the frames that the picture at `strength` is made of, and that of the strength itself."""
    between = [] if share is None else nodes_of(strength * share, MAX_STRENGTH)
    for needed in [strength, *between]:
        yield from messages.render(partial(edit.fill, needed), f"Strength {needed:.2f}")


def _painted(share: np.ndarray | None) -> str:
    return "" if share is None else ", painted"


def _facts(session: Any, strength: float, origin: Mapping[str, Any], share: np.ndarray | None) -> dict[str, Any]:
    """What a file tells of its edit; None for what is not known."""
    facts = edit_facts(session) | dict(origin) | session.full_size_facts(strength)
    return facts | chain_facts(session.photo.earlier_edits, share)


def file_stem(instruction: str) -> str:
    """A file name that says what was done: "Make it snow!" becomes "make-it-snow"."""
    return re.sub(r"[\W_]+", "-", instruction.lower()).strip("-")[:60] or "edit"


def _saved(path: Path, name: str, *sentences: str) -> Message:
    """Offers a file that has just been written."""
    label = f"Download {name} ({path.stat().st_size / 1e6:.1f} MB)"
    return message(note=note(*sentences), download=gr.update(value=str(path), label=label, visible=True))


def save_panel(first_note: str) -> dict[str, Any]:
    """The widgets, by name: one button in reach, all else folded away. `note`: the sizes, then what was saved."""
    with gr.Row(elem_classes="save"):
        picture = gr.Button("Save picture", elem_id="save-picture", min_width=130, scale=0)
        download = gr.DownloadButton("Download", visible=False, elem_id="download", min_width=130, scale=0)
        saved = gr.HTML(first_note, elem_id="saved", padding=False)
    with gr.Accordion("Format, metadata, animations", open=False, elem_id="save-options"):
        with gr.Row():
            formats = [(name, suffix) for suffix, name in PICTURE_FORMATS.items()]
            suffix = gr.Radio(formats, value="jpg", label="Format of the picture", min_width=240)
            hint = "JPEG and WebP; WebP at 100 is lossless."
            quality = gr.Slider(50, 100, value=JPEG_QUALITY, step=1, label="Quality", info=hint, min_width=240)
        profile = gr.Checkbox(False, label="Keep the photograph's colour profile", info="Without: sRGB, safe anywhere.")
        location = gr.Checkbox(False, label="Keep the place (GPS)", info="Without: nobody sees where it was taken.")
        widths = [(f"At most {width} pixels" if width else "Full size", width) for width in WIDTHS]
        width = gr.Dropdown(widths, value=WIDTH, label="Width of the sweep's pictures", elem_id="sweep-width")
        with gr.Row(elem_classes="exports"):
            gr.HTML('<span class="save-as">Save the sweep as</span>', padding=False, min_width=120)
            sweeps = {
                suffix: gr.Button(name, size="sm", min_width=64, elem_id=f"save-{suffix}")
                for suffix, name in SWEEP_FORMATS.items()
            }
    options = [suffix, quality, profile, location]
    return {
        "picture": picture,
        "download": download,
        "note": saved,
        "options": options,
        "width": width,
        "sweeps": sweeps,
    }


def wire_saving(saving: Saving, panel: dict[str, Any], num_frames: gr.Slider, outputs: list[Any]) -> None:
    """Connect the buttons. What is written is fetched by the browser at once."""
    place = gr.JSON(visible=False)
    saves = [(panel["picture"], saving.picture, panel["options"])]
    saves += [
        (button, saving.sweep(suffix), [num_frames, panel["width"]]) for suffix, button in panel["sweeps"].items()
    ]
    for button, handler, inputs in saves:
        event = button.click(handler, [place, *inputs], outputs, js=READ_SLIDER % (1 + len(inputs)), **PRIVATE)
        event.success(None, js=START_DOWNLOAD)
