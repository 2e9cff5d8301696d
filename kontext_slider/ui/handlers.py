"""What happens on the server when a person presses, types or lets go of the slider. No widget is named here.

Every handler is a generator whose messages carry the whole edit (`snapshot`), so they may overtake each other. A
message of an edit that has been replaced is not sent, and errors made on purpose become a sentence in the page.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from kontext_slider.edit import check_instruction, check_num_frames, check_seed, check_steps
from kontext_slider.engine import grid
from kontext_slider.errors import InvalidInput, KontextSliderError, SessionClosed, Superseded
from kontext_slider.instructions import Advice, advise
from kontext_slider.ui.edits import OpenEdits
from kontext_slider.ui.filmstrip import Busy, FilmstripData, snapshot
from kontext_slider.ui.folder import needs_room
from kontext_slider.ui.gpu import session_opener
from kontext_slider.ui.kept import kept_edit, uploaded
from kontext_slider.ui.opening import OPENING_SERIAL, Opening
from kontext_slider.ui.photograph import sizes
from kontext_slider.ui.progress import watched
from kontext_slider.ui.sentences import named, no_download, note, notice, position, whole
from kontext_slider.ui.tab import OpenEdit, Recipe, Tab

MAX_FRAMES = 41  # of a strip
MAX_LETTERS = 500  # of an instruction
MOST_QUOTED = 80  # letters of an instruction in a sentence about it
LOST = "The server does not have this edit any more. It is opened again; if nothing happens, press Edit."
BACK = "The page was loaded again. Your photograph, settings and frames are back."
AGAIN = "The server did not have your edit any more. It is open again, and its frames are rendered again."
Shown = tuple[Tab, Any, Any, Any, Any, Any]  # tab, filmstrip, notice, nearest instructions, download, note


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
        with needs_room():
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
    process ends. `opening` is the edit that the page opens with. `edits` looks after open ones; it has its usual limits
    where none is given.
    """

    def __init__(self, engine: Any, cache: str, opening: Opening | None = None, edits: OpenEdits | None = None) -> None:
        self.engine = engine
        self.opening = opening
        Path(cache).mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="edits-", dir=cache)
        self.edits = edits or OpenEdits(self.folder)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self._finding = threading.Lock()
        self._pages: dict[str, Tab] = {}  # by gradio's name of the connection
        self.open_session = session_opener(engine)
        self.known: dict[str, list[str]] = engine.pipe.known_instructions

    def edit(
        self, tab: Tab, photograph: str | None, instruction: str, num_frames: Any, seed: Any, steps: Any, guidance: Any
    ) -> Iterator[Shown]:
        """Open a session and fill its strip. Outputs: tab, filmstrip, notice, nearest instructions, download,
        note."""
        yield from self._edit(tab, (photograph, instruction, num_frames, seed, steps, guidance))

    def reopen(self, tab: Tab, event: gr.EventData) -> Iterator[Shown]:
        """Show the edit that the browser has kept, after the page was loaded again or the server was restarted.

        It is found by its key where it is still open, and opened and rendered again elsewhere. Outputs as of `edit`.
        """
        try:
            kept = kept_edit(event._data)
            edit = self.edits.find(kept.key)
            inputs = None if edit is not None else (uploaded(kept.photograph), *kept.settings)
        except InvalidInput as error:
            yield tab, gr.skip(), notice(str(error), "error"), gr.skip(), gr.skip(), gr.skip()
            return
        if edit is None and inputs is not None:
            yield from self._edit(tab, inputs, AGAIN)
        elif edit is not None:
            tab.show(edit)
            yield from self._fill(tab, edit, BACK)

    def arrive(self, tab: Tab, request: gr.Request) -> None:
        """A page is there."""
        self._pages[str(request.session_hash)] = tab

    def leave(self, request: gr.Request) -> None:
        """A page is gone, or its connection is. Its edit stays for some minutes (`OpenEdits`)."""
        tab = self._pages.pop(str(request.session_hash), None)
        edit = tab.edit if tab is not None else None
        if edit is not None:
            edit.leave()

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
            yield FilmstripData(edit=serial, is_lost=True, said=LOST), gr.skip()
        else:  # the slider of an edit that has been replaced
            yield gr.skip(), gr.skip()

    def find(self, tab: Tab, serial: int) -> OpenEdit | None:
        """The tab's open edit, if it has that serial. That of the opening is opened now. Raises as `engine.open`."""
        opening = self.opening
        with self._finding:  # a save and the slider may ask for the opening at once
            edit = tab.edit
            if edit is None and opening is not None and serial == OPENING_SERIAL:
                edit = self._start(tab, str(opening.photograph), opening.recipe(), serial)
        return edit if edit is not None and edit.serial == serial else None

    def pick(self, event: gr.EventData) -> Any:
        """A clicked suggestion becomes the instruction."""
        text = event._data.get("text") if isinstance(event._data, dict) else None
        return text[:MAX_LETTERS] if isinstance(text, str) else gr.skip()

    def _edit(self, tab: Tab, inputs: tuple[Any, ...], said: str = "") -> Iterator[Shown]:
        """Open an edit and fill its strip; `said` is what the page says of why it does."""
        reading = Busy(text="Reading the picture and the instruction")
        yield tab, snapshot(tab.edit, reading), "", [], gr.skip(), gr.skip()
        try:
            edit = self._open(tab, *inputs)
        except KontextSliderError as error:  # what was rendered before stays open
            yield tab, snapshot(tab.edit), notice(str(error), "error"), [], gr.skip(), gr.skip()
            return
        edit.remark = advice_notice(edit.recipe.instruction, advise(edit.recipe.instruction, self.known))
        yield from self._fill(tab, edit, said)

    def _fill(self, tab: Tab, edit: OpenEdit, said: str) -> Iterator[Shown]:
        recipe, starting = edit.recipe, Busy(text="Starting")
        nearest = advise(recipe.instruction, self.known).nearest
        yield tab, snapshot(edit, starting, said), edit.remark, nearest, no_download(), note(recipe.sizes)
        for strip, sentence in told(tab, edit, fill(edit, len(recipe.strengths))):
            yield tab, strip, sentence, gr.skip(), gr.skip(), gr.skip()

    def _open(
        self, tab: Tab, photograph: str | None, instruction: str, num_frames: Any, seed: Any, steps: Any, guidance: Any
    ) -> OpenEdit:
        if not photograph:
            raise InvalidInput("Add a photograph first: drop it on the upload box, choose a file, or paste it.")
        pipe = self.engine.pipe
        recipe = Recipe(
            instruction=check_instruction(instruction, MAX_LETTERS).strip(),
            seed=check_seed(whole(seed)),
            steps=check_steps(whole(steps)),
            guidance=guidance if pipe.transformer.config.guidance_embeds else pipe.defaults.guidance,
            source=Path(photograph).name,
            strengths=tuple(grid(check_num_frames(whole(num_frames), MAX_FRAMES))),
            photograph=photograph,
        )
        return self._start(tab, photograph, recipe)

    def _start(self, tab: Tab, photograph: str, recipe: Recipe, serial: int | None = None) -> OpenEdit:
        settings = {"seed": recipe.seed, "steps": recipe.steps, "guidance": recipe.guidance}
        with named(photograph):
            session = self.open_session(photograph, recipe.instruction, **settings)
            recipe = replace(recipe, sizes=sizes(session.photo.image.size, self.engine.pipe))
        edit = tab.replace(session, recipe, self.folder, serial)
        self.edits.add(edit)
        return edit

    def _hand(self, edit: OpenEdit, strength: float) -> Iterator[Busy]:
        for done, total in watched(partial(edit.show, strength)):
            yield Busy(text=f"Strength {strength:.2f}, step {done} of {total}", fraction=done / max(total, 1))
