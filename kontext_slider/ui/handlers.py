"""What happens on the server when a person presses, types or lets go of the slider. No widget is named here.

Every handler is a generator whose messages carry the whole edit (`snapshot`), so they may overtake each other. A
message of an edit that has been replaced is not sent, and errors made on purpose become a sentence in the page.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from kontext_slider.engine import grid
from kontext_slider.errors import InvalidInput, KontextSliderError, SessionClosed, Superseded
from kontext_slider.instructions import Advice, advise
from kontext_slider.ui.filmstrip import Busy, FilmstripData, snapshot
from kontext_slider.ui.gpu import session_opener
from kontext_slider.ui.opening import OPENING_SERIAL, Opening
from kontext_slider.ui.photograph import sizes
from kontext_slider.ui.progress import watched
from kontext_slider.ui.sentences import named, no_download, note, notice, position, whole_number
from kontext_slider.ui.tab import OpenEdit, Recipe, Tab

MAX_SEED = 2**32 - 1
MAX_FRAMES = 41
MAX_STEPS = 200
MAX_LETTERS = 500
MOST_QUOTED = 80  # letters of an instruction in a sentence about it


def advice_notice(instruction: str, advice: Advice) -> str:
    if advice.is_known:
        return ""
    words = instruction.strip()
    words = words if len(words) <= MOST_QUOTED else f"{words[:MOST_QUOTED]} …"
    return notice(f"This model was not trained for “{words}”, so expect little of it. The nearest it knows:")


def fill(edit: OpenEdit, num_frames: int) -> Iterator[Busy]:
    """Render what is missing of a strip, what tells most first; a message per step and per frame."""

    def missing() -> int:
        return sum(not edit.has(strength) for strength in grid(num_frames))

    of = max(missing(), 1)
    while (strength := edit.next_strength(num_frames)) is not None:
        number = max(of - missing(), 0)
        text = f"Frame {min(number + 1, of)} of {of}, strength {strength:.2f}"
        yield Busy(text=text, fraction=number / of)
        for done, total in watched(partial(edit.fill, strength)):
            yield Busy(text=f"{text}, step {done} of {total}", fraction=min(1, (number + done / max(total, 1)) / of))


def told(tab: Tab, edit: OpenEdit, work: Iterator[Busy]) -> Iterator[tuple[FilmstripData, Any]]:
    """Do `work` and tell of it, for as long as `edit` is the tab's."""
    try:
        for busy in work:
            if tab.edit is not edit:
                return
            yield snapshot(edit, busy), gr.skip()
        yield snapshot(edit), gr.skip()
    except (Superseded, SessionClosed):  # the hand moved on, or a newer edit took over: not worth a word
        return
    except KontextSliderError as error:
        yield snapshot(edit), notice(str(error), "error")
    except Exception as error:
        yield snapshot(edit), notice(f"The render failed ({error}). The frames made so far are kept.", "error")
        raise


class Handlers:
    """The handlers over one engine.

    `cache` is the folder that gradio serves files from; frames are kept in one of its own there, which goes when the
    process ends. `opening` is the edit that the page opens with.
    """

    def __init__(self, engine: Any, cache: str, opening: Opening | None = None) -> None:
        self.engine = engine
        self.opening = opening
        Path(cache).mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="kontext-slider-", dir=cache)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.open_session = session_opener(engine)
        self.known: dict[str, list[str]] = engine.pipe.known_instructions

    def edit(
        self, tab: Tab, photograph: str | None, instruction: str, num_frames: Any, seed: Any, steps: Any, guidance: Any
    ) -> Iterator[tuple[Tab, FilmstripData, Any, Any, Any, Any]]:
        """Open a session and fill its strip. Outputs: tab, filmstrip, notice, nearest instructions, download,
        note."""
        yield (
            tab,
            snapshot(tab.edit, Busy(text="Reading the picture and the instruction")),
            "",
            [],
            gr.skip(),
            gr.skip(),
        )
        try:
            edit = self._open(tab, photograph, instruction, num_frames, seed, steps, guidance)
        except KontextSliderError as error:  # what was rendered before stays open
            yield tab, snapshot(tab.edit), notice(str(error), "error"), [], gr.skip(), gr.skip()
            return
        advice = advise(instruction, self.known)
        edit.remark = advice_notice(instruction, advice)
        yield (
            tab,
            snapshot(edit, Busy(text="Starting")),
            edit.remark,
            advice.nearest,
            no_download(),
            note(edit.recipe.sizes),
        )
        for strip, sentence in told(tab, edit, fill(edit, len(edit.recipe.strengths))):
            yield tab, strip, sentence, gr.skip(), gr.skip(), gr.skip()

    def commit(self, tab: Tab, event: gr.EventData) -> Iterator[tuple[Any, Any]]:
        """Render exactly where the slider rests. Outputs: filmstrip, notice."""
        try:
            serial, strength = position(event._data)
            edit = self.find(tab, serial)
        except KontextSliderError as error:
            yield gr.skip(), notice(str(error), "error")
            return
        if edit is not None:
            yield from told(tab, edit, self._hand(edit, strength))
        elif tab.edit is None:
            yield gr.skip(), notice("This edit is no longer open; press Edit to render it again.", "error")
        else:  # the slider of an edit that has been replaced
            yield gr.skip(), gr.skip()

    def find(self, tab: Tab, serial: int) -> OpenEdit | None:
        """The tab's open edit, if it has that serial. That of the opening is opened now. Raises as `engine.open`."""
        edit, opening = tab.edit, self.opening
        if edit is None and opening is not None and serial == OPENING_SERIAL:
            edit = self._start(tab, str(opening.photograph), opening.recipe(), serial)
        return edit if edit is not None and edit.serial == serial else None

    def pick(self, event: gr.EventData) -> Any:
        """A clicked suggestion becomes the instruction."""
        text = event._data.get("text") if isinstance(event._data, dict) else None
        return text[:MAX_LETTERS] if isinstance(text, str) else gr.skip()

    def _open(
        self, tab: Tab, photograph: str | None, instruction: str, num_frames: Any, seed: Any, steps: Any, guidance: Any
    ) -> OpenEdit:
        if not photograph:
            raise InvalidInput("Add a photograph first: drop it on the upload box, choose a file, or paste it.")
        if not isinstance(instruction, str) or not instruction.strip():
            raise InvalidInput("Say what to change: type an instruction or click one of the suggestions.")
        if len(instruction) > MAX_LETTERS:
            raise InvalidInput(f"An instruction has at most {MAX_LETTERS} letters; this one has {len(instruction)}.")
        pipe = self.engine.pipe
        recipe = Recipe(
            instruction=instruction.strip(),
            seed=whole_number(seed, "The seed", 0, MAX_SEED),
            steps=whole_number(steps, "The number of steps", 1, MAX_STEPS),
            guidance=guidance if pipe.transformer.config.guidance_embeds else pipe.defaults.guidance,
            source=Path(photograph).name,
            strengths=tuple(grid(whole_number(num_frames, "The number of frames", 2, MAX_FRAMES))),
        )
        return self._start(tab, photograph, recipe)

    def _start(self, tab: Tab, photograph: str, recipe: Recipe, serial: int | None = None) -> OpenEdit:
        settings = {"seed": recipe.seed, "steps": recipe.steps, "guidance": recipe.guidance}
        with named(photograph):
            session = self.open_session(photograph, recipe.instruction, **settings)
            recipe = replace(recipe, sizes=sizes(session.photo.image.size, self.engine.pipe))
        return tab.replace(session, recipe, self.folder, serial)

    def _hand(self, edit: OpenEdit, strength: float) -> Iterator[Busy]:
        for done, total in watched(partial(edit.show, strength)):
            yield Busy(text=f"Strength {strength:.2f}, step {done} of {total}", fraction=done / max(total, 1))
