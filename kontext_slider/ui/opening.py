"""The edit that the page opens with. Its frames are shipped, so that a visitor drags at once and nothing is rendered.

`python -m kontext_slider.ui.opening` renders them anew with the pocket model, as after a change of its weights. The
session behind them is opened by the first thing that needs it: a strength between the frames, or a save.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gradio.data_classes import FileData

from kontext_slider.shipped import shipped
from kontext_slider.ui.filmstrip import FilmstripData, Frame
from kontext_slider.ui.tab import Recipe, caption

OPENING = shipped("assets/opening") / "opening.json"
OPENING_SERIAL = 1  # below that of every edit that a person opens
NUM_FRAMES = 11
QUALITY = 90  # of WebP; strength 0 is lossless, as it is the source itself


@dataclass(frozen=True)
class Opening:
    """Recipe and frames. `photograph` is a path; `model` names the preset that made the frames."""

    photograph: Path
    model: str
    instruction: str
    seed: int
    steps: int
    guidance: float
    frames: dict[float, Path]

    def recipe(self) -> Recipe:
        """The recipe as that of any open edit."""
        strengths = tuple(sorted(self.frames))
        return Recipe(self.instruction, self.seed, self.steps, self.guidance, self.photograph.name, strengths)

    def filmstrip(self) -> FilmstripData:
        """The strip as the page has it before anything was rendered."""
        return FilmstripData(
            edit=OPENING_SERIAL,
            instruction=self.instruction,
            caption=caption(self.recipe()),
            strengths=sorted(self.frames),
            frames=[Frame(strength=s, file=FileData(path=str(path))) for s, path in sorted(self.frames.items())],
        )


def read_opening(model: str | None, slider: str | None = None, path: Path = OPENING) -> Opening | None:
    """The shipped opening, where these weights made it. None for others, and where it is not installed."""
    if slider is not None or not path.is_file():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    if told["model"] != model:
        return None
    frames = {float(each["strength"]): path.parent / each["file"] for each in told.pop("frames")}
    return Opening(photograph=path.parent / told.pop("photograph"), frames=frames, **told)


def make(photograph: Path, instruction: str, path: Path = OPENING, model: str = "pocket") -> None:
    """Render the frames beside `path` and list them in it."""
    from kontext_slider.engine import SliderEngine
    from kontext_slider.presets import load_pipeline

    path.parent.mkdir(parents=True, exist_ok=True)
    engine = SliderEngine(load_pipeline(model, device="cpu"))
    listed = []
    with engine.open(photograph, instruction) as session:
        for strength in (k / (NUM_FRAMES - 1) for k in range(NUM_FRAMES)):
            name = f"strength-{strength:.2f}.webp"
            lossless = strength == 0
            session.show(strength).save(path.parent / name, "WEBP", lossless=lossless, quality=QUALITY, method=6)
            listed.append({"strength": strength, "file": name})
        told = {"model": model, "instruction": instruction, "seed": session.seed, "steps": session.steps}
    place = Path("..", photograph.parent.name, photograph.name).as_posix()
    told |= {"guidance": session.guidance, "photograph": place, "frames": listed}
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(OPENING.parents[1] / "photos" / "cat.jpg", "make it a pencil sketch")
