"""Examples with pictures: `assets/examples/examples.json`, or none when it is absent."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from kontext_slider.images import read_image
from kontext_slider.shipped import shipped
from kontext_slider.ui.filmstrip import asset
from kontext_slider.ui.photograph import preview

EXAMPLES = shipped("assets/examples") / "examples.json"
THUMB_SIDE = 160  # pixels


@dataclass(frozen=True)
class Example:
    """A picture, an instruction for it, and whom the picture is owed to."""

    image: Path
    instruction: str
    source: str


def read_examples(path: Path = EXAMPLES) -> list[Example]:
    """The examples listed in `path`, pictures found beside it. An absent list is empty."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Example(path.parent / row["image"], row["instruction"], row.get("source", "")) for row in rows]


def credits(examples: list[Example]) -> str:
    """One line that names every source once, in order."""
    return "; ".join(dict.fromkeys(example.source for example in examples if example.source))


class Gallery(gr.HTML):
    """A row of example pictures to click. Event `pick`: {"index": int}."""

    def __init__(self, examples: list[Example], **kwargs: Any) -> None:
        super().__init__(
            value=[
                {"text": each.instruction, "image": preview(read_image(each.image), THUMB_SIDE)} for each in examples
            ],
            html_template=asset("examples.html"),
            css_template=asset("examples.css"),
            js_on_load=asset("examples.js"),
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: list[dict[str, str]]) -> list[dict[str, str]]:  # type: ignore[override]
        return value


class Picking:
    """The handler of the gallery. `folder` is one that gradio serves files from: the examples may be anywhere."""

    def __init__(self, examples: list[Example], folder: str) -> None:
        self.examples = examples
        self.folder = Path(folder) / "examples"

    def pick(self, event: gr.EventData) -> tuple[Any, Any]:
        """An example was clicked. Outputs: photograph, instruction."""
        index = event._data.get("index") if isinstance(event._data, dict) else None
        if not isinstance(index, int) or not 0 <= index < len(self.examples):
            return gr.skip(), gr.skip()
        example = self.examples[index]
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.copy(example.image, self.folder), example.instruction
