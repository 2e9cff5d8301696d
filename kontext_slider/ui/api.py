"""Endpoints for scripts and MCP clients: `edit`, `sweep`, `suggest`. Limits and sentences are the page's.

A call opens an edit of its own and closes it at the end. It is a generator that yields None while it renders: so gradio
can end it, between two denoise steps, when its client has cancelled it or gone.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from ..edit import check_guidance, check_instruction, check_num_frames, check_seed, check_steps, check_strength
from ..engine import grid
from ..engine.response import NUM_MEASURED, even_strengths, measure_response
from ..errors import InvalidInput, KontextSliderError
from ..export import Frame
from ..picture_file import JPEG_QUALITY
from . import messages
from .edits import OpenEdits
from .folder import needs_room
from .handlers import GUIDANCE_RANGE, MAX_FRAMES, MAX_LETTERS, MAX_STEPS, NUM_FRAMES
from .open_edit import OnStep, OpenEdit
from .saving import PICTURE_FORMATS, SWEEP_FORMATS, WIDTH, WIDTHS, write_picture, write_sweep

CALLS_AT_ONCE = 2  # more wait in gradio's queue: each holds a photograph, and the device renders one frame at a time
NOT_SENT = "The image must be a file that was sent to this server before, or the address of one on the internet."
Frames = Callable[[Iterable[float]], Iterator[Frame]]  # the frames of strengths, in that order
NO_GUIDANCE = "This model was trained without a guidance input: leave the guidance out."


class Endpoints:
    """The endpoints over one engine. Their docstrings are what clients read of them.

    edits: where open edits are. cache: the folder that gradio serves files from. suggestions: what `suggest` lists.
    origin: the names of model, slider and speed, for the recipes.
    """

    def __init__(
        self, engine: Any, edits: OpenEdits, cache: str, suggestions: list[str], origin: Mapping[str, Any]
    ) -> None:
        self._engine = engine
        self._edits = edits
        self._cache = cache
        self._suggestions = suggestions
        self._origin = origin

    def edit(
        self,
        image: FileData,
        instruction: str,
        strength: float = 1.0,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        format: str = "jpg",
    ) -> Iterator[FileData | None]:
        """Edit a photograph as an instruction says, at a strength, at the photograph's own size.

        Parameters:
            image: the photograph
            instruction: what to change, such as "make it snow"; `suggest` lists what the model knows
            strength: from 0, untouched, to 1, fully edited
            seed: of the noise; the same seed gives the same picture
            steps: denoise steps, the model's own if left out
            guidance: from 1 to 10, for models that have it, the model's own if left out
            format: jpg, png or webp

        Returns:
            The picture, with its recipe inside
        """
        with _sentences():
            strength = round(check_strength(messages.whole(strength)), 4)
            quality = None if _choice("format", format, PICTURE_FORMATS) == "png" else JPEG_QUALITY
            settings = checked_settings(self._engine.pipe, instruction, seed, steps, guidance)

            def write(edit: OpenEdit, _strengths: list[float], folder: Path, _: OnStep) -> Path:
                return write_picture(edit.session, folder, strength, format, self._origin, quality=quality)[0]

            yield from self._made(image, settings, lambda _: [strength], write)

    def sweep(
        self,
        image: FileData,
        instruction: str,
        n: int = NUM_FRAMES,
        format: str = "gif",
        width: int = WIDTH,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        even: bool = False,
    ) -> Iterator[FileData | None]:
        """Edit a photograph at several strengths, from untouched to fully edited, and put the pictures into one file.

        Parameters:
            image: the photograph
            instruction: what to change, such as "make it snow"; `suggest` lists what the model knows
            n: number of strengths, from 2 to 41
            format: gif, webp, mp4, or zip of PNG files
            width: of the pictures in pixels, at most: 640, 1024, 1920, or 0 for the photograph's own
            seed: of the noise; the same seed gives the same pictures
            steps: denoise steps, the model's own if left out
            guidance: from 1 to 10, for models that have it, the model's own if left out
            even: choose strengths between which the picture changes by equal amounts; renders 11 frames more

        Returns:
            The file, with its recipe inside
        """
        with _sentences():
            n = check_num_frames(messages.whole(n), MAX_FRAMES)
            _choice("format", format, SWEEP_FORMATS)
            most = _choice("width", messages.whole(width), WIDTHS)
            settings = checked_settings(self._engine.pipe, instruction, seed, steps, guidance)
            origin = dict(self._origin) | ({"even_steps": True} if even else {})

            def choose(frames: Frames) -> list[float]:
                return even_strengths(measure_response(frames(grid(NUM_MEASURED))), n) if even else grid(n)

            def write(edit: OpenEdit, strengths: list[float], folder: Path, on_picture: OnStep) -> Path:
                return write_sweep(edit.session, folder, strengths, format, most, origin, on_picture)[0]

            yield from self._made(image, settings, choose, write)

    def suggest(self) -> list[str]:
        """List instructions that the model knows, one of each kind, those that suit any photograph first.

        Returns:
            The instructions
        """
        return self._suggestions

    def _made(
        self,
        image: Any,
        settings: dict[str, Any],
        choose: Callable[[Frames], list[float]],
        write: Callable[[OpenEdit, list[float], Path, OnStep], Path],
    ) -> Iterator[FileData | None]:
        """Render an edit at the strengths that are chosen, then `write` it. Yields None meanwhile, then the file."""
        files: list[Path] = []
        page = f"call-{secrets.token_urlsafe(16)}"

        def make(on_step: OnStep) -> None:
            def frames(strengths: Iterable[float]) -> Iterator[Frame]:
                for frame in edit.session.frames(strengths, on_step):
                    self._edits.of(page)  # which counts as a use
                    yield frame

            strengths = choose(frames)
            for _ in frames(strength for strength in strengths if strength):  # at 0 a picture is the photograph
                pass
            with needs_room():
                folder = Path(tempfile.mkdtemp(prefix="result-", dir=self._cache))
            files.append(write(edit, strengths, folder, on_step))

        self._edits.close_unused()  # files of earlier calls go where there are too many, though no page is open
        edit = self._open(page, image, settings)
        try:
            with edit.at_work():
                yield None  # gradio can end what has yielded once, and the device may be long in coming
                for _ in messages.render(make, "", end=edit.close):
                    yield None
        finally:
            edit.close()
        yield FileData(path=str(files[0]), orig_name=files[0].name)

    def _open(self, page: str, image: Any, settings: dict[str, Any]) -> OpenEdit:
        path = _uploaded(image)
        with messages.named(path), needs_room():
            session = self._engine.open(path, **settings)
            return self._edits.open(page, session, [], path, self._cache)


# Gradio tells a client what it gets by this hint, and a generator's own would say a list.
Endpoints.edit.__annotations__["return"] = Endpoints.sweep.__annotations__["return"] = FileData


def add_endpoints(endpoints: Endpoints) -> None:
    """Add the endpoints to the page that is being built."""
    for call in (endpoints.edit, endpoints.sweep):
        gr.api(call, api_name=call.__name__, concurrency_limit=CALLS_AT_ONCE, concurrency_id="calls")
    gr.api(endpoints.suggest, api_name="suggest")


def checked_settings(pipe: Any, instruction: Any, seed: Any, steps: Any, guidance: Any) -> dict[str, Any]:
    """What `engine.open` gets, within the limits of the page; None stands for the model's own. Raises InvalidInput."""
    settings = {
        "instruction": check_instruction(instruction, MAX_LETTERS).strip(),
        "seed": check_seed(messages.whole(seed)),
    }
    if steps is not None:
        settings["steps"] = check_steps(messages.whole(steps), max(MAX_STEPS, pipe.defaults.steps))
    if guidance is not None:
        if not pipe.transformer.config.guidance_embeds:
            raise InvalidInput(NO_GUIDANCE)
        settings["guidance"] = check_guidance(guidance, *GUIDANCE_RANGE)
    return settings


@contextmanager
def _sentences() -> Iterator[None]:
    """Errors reach the client as a sentence. The server prints those that were not raised on purpose."""
    try:
        with needs_room():
            yield
    except KontextSliderError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        raise gr.Error(f"The edit failed ({error}).") from error


def _choice(name: str, value: Any, known: Iterable[Any]) -> Any:
    """`value`, if it is one of `known`. Raises InvalidInput."""
    if value not in (choices := list(known)):
        raise InvalidInput(f"The {name} must be one of {', '.join(map(str, choices))}, not {value!r}.")
    return value


def _uploaded(image: Any) -> str:
    """The path of an upload, as clients send it. Raises InvalidInput."""
    path = image.get("path") if isinstance(image, dict) else None
    try:
        return messages.uploaded(path if isinstance(path, str) else "")
    except InvalidInput as error:
        raise InvalidInput(NOT_SENT) from error
