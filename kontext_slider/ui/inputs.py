"""What happens on the server with the inputs beside the canvas: the upload, suggestions and examples."""

from __future__ import annotations

import html
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ..errors import KontextSliderError
from ..images import working_size
from ..source_file import read_source
from . import messages
from .components import notice, thumbnail
from .examples import Example
from .folder import check_room
from .open_chain import MAX_LETTERS
from .open_edit import describe_sizes


class Inputs:
    """The handlers of the inputs. folder: one that gradio serves files from."""

    def __init__(self, pipe: Any, folder: str, examples: Sequence[Example] = ()) -> None:
        self.pipe, self.folder, self.examples = pipe, folder, examples

    def pick(self, event: gr.EventData) -> Any:
        """A clicked suggestion becomes the instruction."""
        text = messages.values_of(event).get("text")
        return text[:MAX_LETTERS] if isinstance(text, str) else gr.skip()

    def pick_example(self, event: gr.EventData) -> tuple[Any, Any]:
        """An example was clicked. Outputs: photograph, instruction. Gradio serves files of its own folder only."""
        index = messages.values_of(event).get("index")
        if not isinstance(index, int) or not 0 <= index < len(self.examples):
            return gr.skip(), gr.skip()
        return self.upload_of(self.examples[index]), self.examples[index].instruction

    def upload_of(self, example: Example) -> str:
        """An example's photograph as if a visitor had sent it."""
        folder = Path(self.folder, "examples")
        folder.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(example.image, folder))

    def look(self, path: str | None) -> tuple[Any, Any, Any]:
        """Another photograph stands in the upload. Outputs: photograph, look, notice."""
        try:
            return gr.skip(), look(path, self.pipe), "" if path else gr.skip()
        except KontextSliderError as error:
            return None, "", notice(str(error))

    def refused(self, event: gr.EventData) -> str:
        """A file that could not be sent becomes a sentence. Output: notice."""
        data = messages.values_of(event)
        name, reason = str(data.get("name", "The file"))[:200], str(data.get("reason", ""))[:300]
        try:
            check_room(get_upload_folder())  # gradio says of a full disk only that the server has failed
        except KontextSliderError as error:
            return notice(str(error))
        return notice(f"{name} could not be sent to the server ({reason}). Try again, or choose another.")


def look(path: str | Path | None, pipe: Any) -> str:
    """What the page shows of a chosen photograph: a preview, its name, its sizes. "" for none.

    Browsers cannot show every photograph (HEIC, most of all), so the preview is made here. Raises UnreadableImage and
    InvalidInput, with the name that the visitor knows the file by.
    """
    if not path:
        return ""
    with messages.named(path):
        photo = read_source(path)
        sizes = sizes_of(photo.image.size, pipe)
    after = ", then ".join(f"{edit.instruction} {edit.strength:.2f}" for edit in photo.earlier_edits)
    sizes += f"<br>after {html.escape(after)}" if after else ""
    picture, name = f'<img src="{thumbnail(photo.on_white())}" alt="">', html.escape(photo.name)
    return f'<figure class="look">{picture}<figcaption><b>{name}</b> <span>{sizes}</span></figcaption></figure>'


def sizes_of(photograph: tuple[int, int], pipe: Any) -> str:
    """The sizes of a photograph and of its frames, as the page says them, before an edit is open."""
    return describe_sizes(photograph, working_size(photograph, pipe.defaults.size, 2 * pipe.vae_scale_factor))
