"""The widgets with which a person saves, and which handler answers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from kontext_slider.picture_file import JPEG_QUALITY
from kontext_slider.ui.filmstrip import Filmstrip
from kontext_slider.ui.saving import DEFAULT_WIDTH, FORMAT_NAMES, FULL_SIZE, PICTURE_NAMES, WIDTHS, Saving
from kontext_slider.ui.tab import Tab

START_DOWNLOAD = """() => {
  const press = (tries) => {
    const button = document.querySelector('#download');
    if (button) setTimeout(() => button.click(), 50);
    else if (tries > 0) setTimeout(() => press(tries - 1), 100);
  };
  press(50);
}"""  # gradio mounts the button after the event has ended; after a failed export it stays hidden

# The second input of a save: what stands on the slider at the moment of the press. The strip keeps it in its dataset.
READ_SLIDER = """(...values) => {
  const { edit, strength } = document.querySelector('#filmstrip .stage').dataset;
  values[1] = { edit: Number(edit || 0), strength: Number(strength) };
  return values.slice(0, %d);
}"""


@dataclass(frozen=True)
class SavePanel:
    """`note` says the sizes, then what was saved; `place` carries the slider's position to the server."""

    picture: gr.Button
    note: gr.HTML
    download: gr.DownloadButton
    place: gr.JSON
    options: list[Any]  # of a picture: format, quality, profile, location
    width: gr.Dropdown
    sweeps: dict[str, gr.Button]


def save_panel(first_note: str = "") -> SavePanel:
    """Draw the widgets: one button in reach, everything else folded away."""
    place = gr.JSON(visible=False)
    with gr.Row(elem_classes="save"):
        picture = gr.Button("Save picture", elem_id="save-picture", min_width=130, scale=0)
        download = gr.DownloadButton("Download", visible=False, elem_id="download", min_width=130, scale=0)
        note = gr.HTML(first_note, elem_id="saved", padding=False)
    with gr.Accordion("Format, metadata, animations", open=False, elem_id="save-options"):
        with gr.Row():
            suffix = gr.Radio(
                [(name, suffix) for suffix, name in PICTURE_NAMES.items()],
                value="jpg",
                label="Format of the picture",
                min_width=240,
            )
            quality = gr.Slider(
                50,
                100,
                value=JPEG_QUALITY,
                step=1,
                label="Quality",
                info="JPEG and WebP; WebP at 100 is lossless.",
                min_width=240,
            )
        profile = gr.Checkbox(False, label="Keep the photograph's colour profile", info="Without: sRGB, safe anywhere.")
        location = gr.Checkbox(False, label="Keep the place (GPS)", info="Without: nobody sees where it was taken.")
        width = gr.Dropdown(
            [(width_name(width), width) for width in WIDTHS], value=DEFAULT_WIDTH, label="Width of the sweep's pictures"
        )
        with gr.Row(elem_classes="exports"):
            gr.HTML('<span class="save-as">Save the sweep as</span>', padding=False, min_width=120)
            sweeps = {
                suffix: gr.Button(name, size="sm", min_width=64, elem_id=f"save-{suffix}")
                for suffix, name in FORMAT_NAMES.items()
            }
    return SavePanel(picture, note, download, place, [suffix, quality, profile, location], width, sweeps)


def width_name(width: int) -> str:
    """A width as the menu names it."""
    return "Full size" if width == FULL_SIZE else f"At most {width} pixels"


def wire_saving(
    saving: Saving, panel: SavePanel, tab: gr.State, strip: Filmstrip, sentence: gr.HTML, num_frames: gr.Slider
) -> None:
    """Connect the buttons. What is written is fetched by the browser at once."""
    outputs = [strip, sentence, panel.note, panel.download]

    def wire(button: gr.Button, handler: Any, inputs: list[Any]) -> None:
        event = button.click(
            handler,
            [tab, panel.place, *inputs],
            outputs,
            js=READ_SLIDER % (2 + len(inputs)),
            show_progress="hidden",
            api_visibility="private",
        )
        event.success(None, js=START_DOWNLOAD)

    wire(panel.picture, saving.picture, panel.options)
    for suffix, button in panel.sweeps.items():
        wire(button, partial(_sweep, saving, suffix), [num_frames, panel.width])


def _sweep(saving: Saving, suffix: str, tab: Tab, place: Any, num_frames: Any, width: Any) -> Iterator[tuple[Any, ...]]:
    """gradio tells a generator by its function, which a partial of a method hides."""
    yield from saving.sweep(suffix, tab, place, num_frames, width)
