"""What happens on the server when a person saves: one picture at the photograph's own size, or the sweep.

Every picture comes from `session.picture`, those of a sweep at the width that the person chose. A file is
written into the folder of its edit, from which the browser fetches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from kontext_slider.edit import check_num_frames, check_whole
from kontext_slider.engine import grid
from kontext_slider.errors import InvalidInput, KontextSliderError
from kontext_slider.export import save_sweep
from kontext_slider.metadata import describe, read_metadata
from kontext_slider.picture_file import picture_name, save_picture
from kontext_slider.ui.filmstrip import Busy
from kontext_slider.ui.handlers import MAX_FRAMES, fill, told
from kontext_slider.ui.progress import watched
from kontext_slider.ui.sentences import no_download, note, notice, position, whole
from kontext_slider.ui.tab import OnStep, OpenEdit, Tab

FORMAT_NAMES = {"gif": "GIF", "webp": "WebP", "mp4": "MP4", "zip": "ZIP"}
PICTURE_NAMES = {"jpg": "JPEG", "png": "PNG", "webp": "WebP"}
FULL_SIZE = 0  # as a width: the photograph's own
WIDTHS = (640, 1024, 1920, FULL_SIZE)  # of a sweep's pictures, at most, in pixels
DEFAULT_WIDTH = 1024
NOTHING_OPEN = "There is nothing to save yet; press Edit first."
Find = Callable[[Tab, int], OpenEdit | None]


def file_stem(instruction: str) -> str:
    """A file name that says what was done: "Make it snow!" becomes "make-it-snow"."""
    return re.sub(r"[\W_]+", "-", instruction.lower()).strip("-")[:60] or "edit"


def choice(value: Any, known: Any, name: str) -> Any:
    """`value` if it is one of `known`, or `InvalidInput`. Values come from a browser and may be anything."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in known:
        raise InvalidInput(f"{name} is one of {', '.join(str(each) for each in known)}; got {value!r}.")
    return value


class Saving:
    """The save handlers.

    `find(tab, serial)` is the tab's open edit of that serial; `model` and `slider` are the weights' names, and `speed`
    that of the engine's, as files shall tell them.
    """

    def __init__(
        self, find: Find, model: str | None = None, slider: str | None = None, speed: str | None = None
    ) -> None:
        self.find = find
        self.model = model
        self.slider = slider
        self.speed = speed

    def picture(
        self, tab: Tab, place: Any, suffix: Any, quality: Any, keep_profile: Any, keep_location: Any
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Write the picture on the slider at the photograph's own size. Outputs: filmstrip, notice, note, download."""
        try:
            choice(suffix, PICTURE_NAMES, "The format")
            quality = check_whole("quality", whole(quality), 1, 100)
            edit, strength = self._find(tab, place)
        except KontextSliderError as error:
            yield gr.skip(), notice(str(error), "error"), gr.skip(), no_download()
            return
        yield gr.skip(), edit.remark, note(edit.recipe.sizes), no_download()
        is_lossless = suffix == "png" or (suffix == "webp" and quality == 100)
        keep: dict[str, Any] = {"keep_profile": keep_profile is True, "keep_location": keep_location is True}
        keep["quality"] = None if is_lossless else quality
        written: list[tuple[Path, str]] = []
        for strip, sentence in told(tab, edit, self._write_picture(edit, strength, suffix, keep, written)):
            yield strip, sentence, gr.skip(), gr.skip()
        for path, said in written:
            yield gr.skip(), gr.skip(), said, download(path, PICTURE_NAMES[suffix])

    def sweep(
        self, suffix: str, tab: Tab, place: Any, num_frames: Any, width: Any
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Complete the sweep and write it. Outputs: filmstrip, notice, note, download."""
        try:
            strengths = grid(check_num_frames(whole(num_frames), MAX_FRAMES))
            choice(width, WIDTHS, "The width")
            edit, _ = self._find(tab, place)
        except KontextSliderError as error:
            yield gr.skip(), notice(str(error), "error"), gr.skip(), no_download()
            return
        yield gr.skip(), edit.remark, note(edit.recipe.sizes), no_download()
        written: list[tuple[Path, str]] = []
        for strip, sentence in told(tab, edit, self._write_sweep(edit, strengths, suffix, width, written)):
            yield strip, sentence, gr.skip(), gr.skip()
        for path, said in written:
            yield gr.skip(), gr.skip(), said, download(path, FORMAT_NAMES[suffix])

    def _find(self, tab: Tab, place: Any) -> tuple[OpenEdit, float]:
        """The open edit and the strength on its slider."""
        if not isinstance(place, dict) or not place.get("edit"):
            raise InvalidInput(NOTHING_OPEN)
        serial, strength = position(place)
        edit = self.find(tab, serial)
        if edit is None:
            raise InvalidInput("This edit is no longer open; press Edit to render it again.")
        return edit, strength

    def _write_picture(
        self, edit: OpenEdit, strength: float, suffix: str, keep: dict[str, Any], written: list[tuple[Path, str]]
    ) -> Iterator[Busy]:
        """Renders first what is missing, as a frame of the strip does: a later move of the slider cannot cancel it."""
        for done, total in watched(partial(edit.fill, strength)):
            yield Busy(text=f"Strength {strength:.2f}, step {done} of {total}", fraction=done / max(total, 1))
        photo = edit.session.photo
        yield Busy(text=f"Writing the {PICTURE_NAMES[suffix]}, {photo.image.width} x {photo.image.height}")
        picture, facts = edit.session.picture(strength), edit.session.full_size_facts(strength)
        path = edit.folder / picture_name(edit.recipe.source, edit.recipe.instruction, strength, suffix)
        origin = self._origin(edit)
        metadata = describe([strength], picture.size, origin.pop("source"), origin | facts | {"speed": self.speed})
        left_out = save_picture(picture, path, metadata, photo=photo, **keep)
        saved = f"Saved {picture.width} x {picture.height} at strength {strength:.2f}."
        written.append((path, note(saved, left_out, facts.get("warning", ""))))

    def _write_sweep(
        self, edit: OpenEdit, strengths: list[float], suffix: str, width: int, written: list[tuple[Path, str]]
    ) -> Iterator[Busy]:
        yield from fill(edit, len(strengths))
        session, facts = edit.session, edit.session.full_size_facts(strengths[-1])
        facts |= {} if self.speed is None else {"speed": self.speed}
        widest = None if width == FULL_SIZE else width
        path = edit.folder / f"{file_stem(edit.recipe.instruction)}.{suffix}"

        def write(on_picture: OnStep) -> None:
            def pictures() -> Iterator[tuple[float, Image.Image]]:
                for number, strength in enumerate(strengths):
                    on_picture(number + 1, len(strengths))
                    yield strength, session.picture(strength, width=widest)

            save_sweep(pictures(), path, strengths=strengths, facts=facts, **self._origin(edit))

        for number, total in watched(write):
            yield Busy(text=f"Picture {number} of {total}", fraction=number / total)
        columns, rows = read_metadata(path)["size"]
        written.append(
            (path, note(f"Saved {len(strengths)} pictures of {columns} x {rows}.", facts.get("warning", "")))
        )

    def _origin(self, edit: OpenEdit) -> dict[str, Any]:
        recipe = edit.recipe
        return {
            "instruction": recipe.instruction,
            "seed": recipe.seed,
            "model": self.model,
            "slider": self.slider,
            "source": recipe.source,
            "steps": recipe.steps,
            "guidance": recipe.guidance,
        }


def download(path: Path, name: str) -> Any:
    """Offers a file that has just been written."""
    return gr.update(value=str(path), label=f"Download {name} ({path.stat().st_size / 1e6:.1f} MB)", visible=True)
