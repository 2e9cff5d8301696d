"""What a browser has kept of an edit and sends back to have it again. It may be anything, so it is checked here.

The browser's side is `keep.js`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from kontext_slider.errors import InvalidInput
from kontext_slider.ui.filmstrip import asset

MAX_KEY = 100  # letters


@dataclass(frozen=True)
class KeptEdit:
    """`key` names an open edit. `photograph` is a path that the server gave out; `settings` are the arguments of
    `Handlers.edit` after it, which checks them itself."""

    key: str
    photograph: str
    settings: tuple[Any, ...]  # instruction, number of frames, seed, steps, guidance


def kept_edit(data: Any) -> KeptEdit:
    """The edit that a `reopen` from the browser names. Raises InvalidInput."""
    values: dict[str, Any] = data if isinstance(data, dict) else {}
    key, photograph, guidance = values.get("key"), values.get("photograph"), values.get("guidance")
    if not isinstance(key, str) or len(key) > MAX_KEY or not isinstance(photograph, str):
        raise InvalidInput("The browser has kept nothing that names an edit: press Edit.")
    if guidance is not None and (isinstance(guidance, bool) or not isinstance(guidance, (int, float))):
        raise InvalidInput("The guidance is a number: press Edit.")
    settings = (values.get("instruction"), values.get("num_frames"), values.get("seed"), values.get("steps"), guidance)
    return KeptEdit(key, photograph, settings)


def uploaded(path: str) -> str:
    """`path`, where it is a file that was uploaded to this process, as gradio checks it. Raises InvalidInput."""
    if not path or not is_in_or_equal(path, get_upload_folder()) or not Path(path).is_file():
        raise InvalidInput("The server does not have the photograph any more: add it again and press Edit.")
    return path


def wire_keeping(app: gr.Blocks, handlers: Any, tab: gr.State, inputs: list[Any]) -> None:
    """Let the browser keep the inputs of an edit and give them back when the page is loaded again."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    keep = f"(...values) => {{ {asset('keep.js')}\n keepInputs(...values); }}"
    give_back = f"async () => {{ {asset('keep.js')}\n return await restoredInputs(); }}"
    gr.on([widget.change for widget in inputs], None, inputs, None, js=keep, **quiet)
    app.load(None, None, inputs, js=give_back, **quiet)
    app.load(handlers.arrive, tab, None, **quiet)
    app.unload(handlers.leave)
