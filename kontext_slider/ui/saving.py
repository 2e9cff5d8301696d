"""What happens on the server when a person saves: the sweep of an open edit, written to a file that can be fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from kontext_slider.engine import grid
from kontext_slider.errors import InvalidInput
from kontext_slider.export import save_sweep
from kontext_slider.ui.filmstrip import Busy
from kontext_slider.ui.handlers import MAX_FRAMES, fill, no_download, notice, told, whole_number
from kontext_slider.ui.tab import OpenEdit, Tab

FORMAT_NAMES = {"gif": "GIF", "webp": "WebP", "mp4": "MP4", "zip": "ZIP"}


def file_stem(instruction: str) -> str:
    """A file name that says what was done: "Make it snow!" becomes "make-it-snow"."""
    return re.sub(r"[\W_]+", "-", instruction.lower()).strip("-")[:60] or "edit"


class Saving:
    """The save handlers. `model` and `slider` are the weights' names as files shall tell them."""

    def __init__(self, model: str | None = None, slider: str | None = None) -> None:
        self.model = model
        self.slider = slider

    def sweep(self, suffix: str, tab: Tab, num_frames: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Complete the sweep and write it. Outputs: filmstrip, notice, download."""
        edit = tab.edit
        if edit is None:
            yield gr.skip(), notice("There is nothing to save yet; press Edit first.", "error"), no_download()
            return
        yield gr.skip(), edit.remark, no_download()
        try:
            strengths = grid(whole_number(num_frames, "The number of frames", 2, MAX_FRAMES))
        except InvalidInput as error:
            yield gr.skip(), notice(str(error), "error"), no_download()
            return
        written: list[Path] = []
        for strip, sentence in told(tab, edit, self._write(edit, strengths, suffix, written)):
            yield strip, sentence, gr.skip()
        if written:
            size = written[0].stat().st_size / 1e6
            label = f"Download {FORMAT_NAMES[suffix]} ({size:.1f} MB)"
            yield gr.skip(), gr.skip(), gr.update(value=str(written[0]), label=label, visible=True)

    def _write(self, edit: OpenEdit, strengths: list[float], suffix: str, written: list[Path]) -> Iterator[Busy]:
        yield from fill(edit, len(strengths))
        yield Busy(text=f"Writing the {FORMAT_NAMES[suffix]}")
        recipe = edit.recipe
        frames = [(strength, edit.picture(strength)) for strength in strengths]
        path = save_sweep(
            frames,
            edit.folder / f"{file_stem(recipe.instruction)}.{suffix}",
            instruction=recipe.instruction,
            seed=recipe.seed,
            model=self.model,
            slider=self.slider,
            source=recipe.source,
            steps=recipe.steps,
            guidance=recipe.guidance,
        )
        written.append(path)
