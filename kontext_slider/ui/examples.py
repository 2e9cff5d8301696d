"""What a visitor finds on the page: an edit that is rendered already, and example pictures to click.

`python -m kontext_slider.ui.examples` renders the opening edit anew with the pocket model, as after a change of its
weights. Its session is opened by the first thing that needs it: a strength between the frames, or a save.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import file_sha256, shipped
from ..images import Photo
from .canvas_data import CanvasData, EditInputs, caption, frames_of

EXAMPLES = shipped("assets/examples") / "examples.json"
OPENING = shipped("assets/opening") / "opening.json"
OPENING_SERIAL = 1  # below that of every edit that a visitor opens
QUALITY = 90  # of WebP; strength 0 is lossless, as it is the source itself


@dataclass(frozen=True)
class Example:
    """A picture, an instruction for it, and whom the picture is owed to."""

    image: Path
    instruction: str
    source: str

    @property
    def name(self) -> str:
        """What links call it."""
        return self.image.stem


def read_examples(path: Path = EXAMPLES) -> list[Example]:
    """The examples listed in `path`, pictures found beside it. An absent list is empty."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Example(path.parent / row["image"], row["instruction"], row.get("source", "")) for row in rows]


def example_of(photo: Photo, examples: Sequence[Example]) -> str:
    """The name of the example whose file a photograph is, untouched by an earlier edit; "" for others."""
    if not photo.sha256 or photo.earlier_edits:
        return ""
    return next((each.name for each in examples if file_sha256(each.image) == photo.sha256), "")


def credits(examples: list[Example]) -> str:
    """One line that names every source once, in order."""
    return "; ".join(dict.fromkeys(example.source for example in examples if example.source))


@dataclass(frozen=True)
class Opening:
    """The edit that the page opens with: photograph, settings of `SliderEngine.open`, frames by strength."""

    photograph: Path
    settings: dict[str, Any]
    frames: dict[float, Path]

    def canvas(self) -> CanvasData:
        """What the page shows before anything was rendered."""
        inputs = EditInputs(photograph="", num_frames=len(self.frames), **self.settings)
        return CanvasData(
            edit=OPENING_SERIAL,
            inputs=inputs,
            caption=caption(inputs, self.photograph.name),
            example=self.photograph.stem,
            strengths=sorted(self.frames),
            frames=frames_of(sorted(self.frames.items())),
        )


def read_opening(model: str | None, slider: str | None = None, path: Path = OPENING) -> Opening | None:
    """The shipped opening, where these weights made it. None for others, and where it is not installed."""
    if slider is not None or not path.is_file():
        return None
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.pop("model") != model:
        return None
    frames = {float(each["strength"]): path.parent / each["file"] for each in settings.pop("frames")}
    return Opening(path.parent / settings.pop("photograph"), settings, frames)


def render_opening(photograph: Path, instruction: str, path: Path = OPENING, model: str = "pocket") -> None:
    """Render the frames beside `path` and list them in it."""
    from ..engine import SliderEngine
    from ..presets import load_pipeline

    path.parent.mkdir(parents=True, exist_ok=True)
    with SliderEngine(load_pipeline(model, device="cpu")).open(photograph, instruction) as session:
        listed = []
        for strength, frame in session.sweep(11):
            name = f"strength-{strength:.2f}.webp"
            frame.save(path.parent / name, "WEBP", lossless=strength == 0, quality=QUALITY, method=6)
            listed.append({"strength": strength, "file": name})
        facts = {"model": model, "instruction": instruction, "seed": session.seed, "steps": session.steps}
    place = Path("..", photograph.parent.name, photograph.name).as_posix()
    facts |= {"guidance": session.guidance, "photograph": place, "frames": listed}
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    render_opening(OPENING.parents[1] / "photos" / "cat.jpg", "make it a pencil sketch")
