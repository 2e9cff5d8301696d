"""Sentences of the page, and the checks of what a browser sends that end in one."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from kontext_slider.edit import check_strength
from kontext_slider.errors import InvalidInput, UnreadableImage


def notice(text: str, kind: str = "advice") -> str:
    """A sentence as the page shows it; `kind` is "advice" or "error"."""
    return f'<p class="notice {kind}" role="alert">{html.escape(text)}</p>' if text else ""


def note(*sentences: str) -> str:
    """The sizes, or what was saved, as the page shows it beside the button."""
    return f'<p class="saved" role="status">{html.escape(" ".join(filter(None, sentences)))}</p>'


def no_download() -> Any:
    """Takes back what was offered: the file of a replaced edit is gone. Made anew each time, as gradio changes it."""
    return gr.update(value=None, visible=False)


def whole(value: Any) -> Any:
    """A whole number from a browser as an int: JSON has no integers, so 3 may come as 3.0. Anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@contextmanager
def named(path: str) -> Iterator[None]:
    """Errors about an upload name it as the person knows it: the server's folders are nobody's business."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(str(error).replace(repr(path), repr(Path(path).name))) from error


def position(data: Any) -> tuple[int, float]:
    """(edit, strength) of a `commit` from the browser, or `InvalidInput`."""
    values: dict[str, Any] = data if isinstance(data, dict) else {}
    edit, strength = values.get("edit"), values.get("strength")
    if not isinstance(edit, int):
        raise InvalidInput("The browser names no edit: press Edit.")
    return edit, round(check_strength(strength), 4)
