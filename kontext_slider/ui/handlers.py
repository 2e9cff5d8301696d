"""What happens on the server when a visitor presses, types or lets go of the slider. No widget is named here.

Handlers of an edit are generators of messages (`messages.py`). A page is gradio's name of a connection.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from ..edit import MAX_STRENGTH, check_instruction, check_num_frames, check_strength
from ..engine import grid
from ..engine.order import coarse_first
from ..errors import InvalidInput, KontextSliderError
from ..images import read_image
from ..instructions import advise
from ..source_file import read_source
from . import messages
from .canvas_data import Busy, CanvasData, describe
from .components import note, notice
from .edits import OpenEdits, visitor_of
from .examples import OPENING_SERIAL, Example, Opening, example_of
from .inputs import Inputs
from .messages import Message, message
from .open_chain import MAX_LETTERS, first_on, layers_of, stack
from .open_edit import BEYOND, SEEN, LayerInputs, OpenEdit

NUM_FRAMES, MAX_FRAMES = 11, 41  # of a strip: unless others are chosen, and at most
MAX_STEPS = 50  # denoise steps, or the model's own where these are more
GUIDANCE_RANGE = (1, 10)
MOST_QUOTED = 80  # letters of an instruction in a sentence about it
EDIT_INPUTS = ("photograph", "instruction", "num_frames", "seed", "steps", "guidance")
LOST = "The server does not have this edit any more. It is opened again; if nothing happens, press Edit."
BACK = "The page was loaded again. Your photograph, settings and frames are back."
AGAIN = "The server did not have your edit any more. It is open again, and its frames are rendered again."


class Handlers:
    """The handlers over one engine.

    cache: the folder that gradio serves files from; frames lie in one of its own there, which goes when the process
        ends. opening: the edit that the page opens with. edits: where open ones are; None: one with the usual limits.
    """

    def __init__(
        self,
        engine: Any,
        cache: str,
        opening: Opening | None = None,
        examples: Sequence[Example] = (),
        edits: OpenEdits | None = None,
    ) -> None:
        self.engine = engine
        self.opening = opening
        self.examples = examples
        Path(cache).mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="edits-", dir=cache)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.edits = edits or OpenEdits(self.folder)
        self.inputs = Inputs(engine.pipe, self.folder, examples)
        self._finding = threading.Lock()

    def edit(self, request: gr.Request, *inputs: Any, layers: Sequence[LayerInputs] = ()) -> Iterator[Message]:
        """Open a session and fill its strip. `inputs`: values of `EDIT_INPUTS`; layers: of a list of edits."""
        yield from self._edit(request, dict(zip(EDIT_INPUTS, inputs, strict=True)) | {"layers": list(layers)})

    def reopen(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Show the edit that the browser has kept, after the page was loaded again or the server was restarted.

        It is found by its key where it is still open, and opened and rendered again elsewhere.
        """
        page = str(request.session_hash)
        try:
            key, inputs = messages.kept_edit(messages.values_of(event))
            edit = self.edits.find(key)
            if edit is None:
                inputs["photograph"] = messages.uploaded(inputs["photograph"])
        except InvalidInput as error:
            yield message(notice=notice(str(error)))
            return
        if edit is None:
            yield from self._edit(request, inputs, "" if messages.values_of(event).get("is_step") else AGAIN)
        else:
            self.edits.show(page, edit)
            yield from self._fill(request, edit, "" if messages.values_of(event).get("is_step") else BACK)

    def leave(self, request: gr.Request) -> None:
        """A page is gone, or its connection is."""
        self.edits.leave(str(request.session_hash))

    def commit(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Render exactly where the slider rests."""
        page = str(request.session_hash)
        try:
            serial, strength = messages.position(messages.values_of(event))
            edit = self.find(page, serial)
            strength = check_strength(strength, edit.highest if edit else MAX_STRENGTH)
        except KontextSliderError as error:
            yield message(notice=notice(str(error)))
            return
        if edit is not None:
            yield from messages.report(edit, messages.render(partial(edit.show, strength), f"Strength {strength:.2f}"))
        elif self.edits.of(page) is None:
            yield message(canvas=CanvasData(edit=serial, is_lost=True, said=LOST))
        else:  # the slider of an edit that has been replaced
            yield message()

    def draw(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Give the browser what it needs to draw the edit that the page opens with, from the frames that are there."""
        edit = self._named_edit(event, request)
        if edit is None or self.opening is None or edit.serial != OPENING_SERIAL:
            yield message()
            return
        frames = self.opening.frames

        def adopt() -> Iterator[Busy]:
            edit.folder.write_screen(edit.session.photo)
            for strength in coarse_first(list(frames)):
                edit.keep(strength, read_image(frames[strength]))
                yield Busy(text="Preparing the example")

        yield from messages.report(edit, adopt())

    def complete(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Render the whole strip for a browser that cannot draw between the frames."""
        edit = self._named_edit(event, request)
        if edit is None:
            yield message()
        else:
            yield from self.do(request, edit, messages.fill(edit, len(edit.strengths)))

    def beyond(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Let the slider go beyond the full edit, and render frames there; or end it at 1 again."""
        edit = self._named_edit(event, request)
        if edit is None:
            yield message()
            return
        edit.highest = MAX_STRENGTH if messages.values_of(event).get("on") is True else 1.0
        yield from self.do(request, edit, messages.fill_each(edit, BEYOND if edit.highest > 1 else ()))

    def tile(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """Send a part of the photograph at its own size, for a browser that is zoomed in."""
        edit = self._named_edit(event, request)
        if edit is None:
            yield message()
            return
        try:
            box = messages.box_of(messages.values_of(event), edit.session.photo.image.size)
            edit.folder.write_tile(edit.session.photo, box)
        except KontextSliderError as error:
            yield message(notice=notice(str(error)))
            return
        yield message(canvas=describe(edit))

    def _named_edit(self, event: gr.EventData, request: gr.Request) -> OpenEdit | None:
        """The page's open edit that an event names; None for another one, and for one that cannot be opened."""
        serial = messages.values_of(event).get("edit")
        try:
            return self.find(str(request.session_hash), serial) if isinstance(serial, int) else None
        except KontextSliderError:  # the photograph of the opening is gone: its frames are shown as they are
            return None

    def do(self, request: gr.Request, edit: OpenEdit, work: Iterator[Busy | Message]) -> Iterator[Message]:
        """Report long work, or why it is not begun: so much is done already, for this visitor or for all."""
        try:
            with self.edits.job(visitor_of(request)) as num_others:
                yield from messages.report(edit, work, num_others)
        except InvalidInput as error:
            yield message(canvas=describe(edit), notice=notice(str(error)))

    def placed(self, request: gr.Request, values: dict[str, Any]) -> tuple[OpenEdit, float, np.ndarray | None]:
        """The page's edit, where its slider stands, and what is painted (as `messages.strength_map`), of a browser's
        values. Raises InvalidInput, and as `find`."""
        serial, strength = messages.position(values)
        share = messages.strength_map(values)
        edit = self.find(str(request.session_hash), serial)
        if edit is None:
            raise InvalidInput("This edit is no longer open; press Edit to render it again.")
        check_strength(strength, edit.highest)
        return edit, strength, share

    def find(self, page: str, serial: int) -> OpenEdit | None:
        """The page's open edit, if it has that serial. That of the opening is opened now. Raises as `engine.open`."""
        opening = self.opening
        with self._finding:  # a save and the slider may need the opening at once
            edit = self.edits.of(page)
            if edit is None and opening is not None and serial == OPENING_SERIAL:
                edit = self._open(page, opening.photograph, sorted(opening.frames), opening.settings, serial)
        return edit if edit is not None and edit.serial == serial else None

    def _edit(self, request: gr.Request, inputs: dict[str, Any], said: str = "") -> Iterator[Message]:
        """Open an edit and fill its strip; `said` is what the page says of why it does."""
        page = str(request.session_hash)
        before = self.edits.of(page)
        reading = Busy(text="Reading the picture and the instruction")
        yield message(canvas=describe(before, reading), notice="", nearest=[])
        try:
            photograph, num_frames = inputs.pop("photograph"), inputs.pop("num_frames")
            layers = layers_of(listed) if (listed := inputs.pop("layers", [])) else []
            inputs["instruction"] = first_on(layers) if layers else inputs["instruction"]
            if not photograph:
                raise InvalidInput("Add a photograph first: drop it on the upload box, choose a file, or paste it.")
            inputs["instruction"] = check_instruction(inputs["instruction"], MAX_LETTERS).strip()
            inputs |= {name: messages.whole(inputs[name]) for name in ("seed", "steps")}
            if not self.engine.pipe.transformer.config.guidance_embeds:
                inputs["guidance"] = self.engine.pipe.defaults.guidance
            strengths = grid(check_num_frames(messages.whole(num_frames), MAX_FRAMES))
            edit = self._open(page, photograph, strengths, inputs)
        except KontextSliderError as error:  # what was rendered before stays open
            yield message(canvas=describe(before), notice=notice(str(error)))
            return
        yield from self._stack(request, edit, layers, said) if layers else self._fill(request, edit, said)

    def chain(self, event: gr.EventData, request: gr.Request) -> Iterator[Message]:
        """The list of edits has changed: {"edit": int, "layers": [as `LayerInputs`]}."""
        page, values = str(request.session_hash), messages.values_of(event)
        try:
            layers = layers_of(values.get("layers"))
            edit = self._named_edit(event, request)
            if edit is None:
                raise InvalidInput("This edit is no longer open; press Edit to render it again.")
        except KontextSliderError as error:
            yield message(canvas=refused(self.edits.of(page)), notice=notice(str(error)))
            return
        yield from self._stack(request, edit, layers, "")

    def _stack(self, request: gr.Request, edit: OpenEdit, layers: list[LayerInputs], said: str) -> Iterator[Message]:
        """Show the last edit of a list, and fill its strip, then those of the edits below it."""
        tops: list[OpenEdit] = []
        last: Message | None = None
        for sent in self.do(request, edit, stack(self.engine, self.folder, edit, layers, tops)):
            if last is not None:
                yield last
            last = sent
        if not tops:
            yield last or message()
            yield message(canvas=refused(edit))
            return
        top = tops[0]
        top.serial = self.edits.next_serial()
        top.remark = remark(top.session.instruction, self.engine.pipe.known_instructions)
        self.edits.show(str(request.session_hash), top)
        yield from self._fill(request, top, said)
        for each in top.below:
            yield from self.do(request, top, messages.fill(each.edit, len(top.strengths), SEEN))

    def _fill(self, request: gr.Request, edit: OpenEdit, said: str) -> Iterator[Message]:
        """Show an edit on a page that has not shown it so far, and render what is missing of its strip."""
        edit.said = said
        yield message(
            canvas=describe(edit, Busy(text="Starting")),
            notice=edit.remark,
            nearest=advise(edit.session.instruction, self.engine.pipe.known_instructions).nearest,
            note=note(edit.sizes),
            download=messages.no_download(),
        )
        yield from self.do(request, edit, messages.fill(edit, len(edit.strengths), SEEN))

    def _open(
        self, page: str, photograph: str | Path, strengths: list[float], settings: dict[str, Any], serial: int = 0
    ) -> OpenEdit:
        """`serial`: of the opening, which has no upload."""
        with messages.named(photograph):
            source = read_source(photograph)
            session = self.engine.open(source, **settings, allow_extrapolation=True)  # `beyond` may want it
        upload = "" if serial else str(photograph)
        edit = self.edits.open(page, session, strengths, upload, self.folder, serial)
        edit.remark = remark(session.instruction, self.engine.pipe.known_instructions)
        edit.example = example_of(session.photo, self.examples)
        return edit


def refused(edit: OpenEdit | None) -> CanvasData:
    """What stays open where a list of edits could not be done."""
    if edit is None:
        return CanvasData(num_refused=-1)
    edit.num_refused += 1
    return describe(edit)


def remark(instruction: str, known: dict[str, list[str]]) -> str:
    """What the page says of an instruction that the model was not trained for; "" for others."""
    if advise(instruction, known).is_known:
        return ""
    words = instruction if len(instruction) <= MOST_QUOTED else f"{instruction[:MOST_QUOTED]} …"
    sentence = f"This model was not trained for “{words}”, so expect little of it. The nearest it knows:"
    return notice(sentence, "advice")
