"""Hugging Face ZeroGPU: there is a GPU for the length of one decorated call only, in a process of its own.

Such a call is a loan. It is charged to the visitor whose request is in the context of the calling thread (`in_thread`
takes it along). So loans are short, and none is taken for what is there already: strength 0 is the source, finished
frames are kept here, pictures of the photograph's own size are made here, and the browser interpolates.

Nothing that a loan changes survives in this process. An edit is a set of values here, and each loan opens its session
anew; as long as that process lives, it has the engine's caches of texts and sources.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from ..edit import MAX_STRENGTH, EditSpec
from ..engine.cache import ByteCache, bytes_of, cache_strength
from ..engine.pictures import Pictures
from ..errors import KontextSliderError, NoGpu, SessionClosed, Superseded
from ..images import ImageLike, Photo, read_photo, working_image
from .background import in_thread

OnStep = Callable[[int, int], None]  # steps done, steps in all
Told = Generator["Step | Made | KontextSliderError", None, None]  # by a loan, as it goes on
Lend = Callable[[list[float], Image.Image, EditSpec], Told]

# Nobody has measured a loan: these are twice what follows from a step of FLUX on one H200 (benchmarks/LOG.md) and the
# 60 of its 132 multiprocessors that a loan has; the weights are taken to come at 2 GB/s.
FLUX_PARAMETERS = 12e9
START_SECONDS = 5.0  # of any loan
LOAD_SECONDS = 16.0  # FLUX with its text encoders
STEP_SECONDS = 0.4  # FLUX, 512 x 512 pixels
LEAST_STEP_SECONDS = 0.03  # a model of any size
TRANSFER_BYTES = 256 * 1024**2  # of the transfers that are remembered, of all edits
LOAN_SECONDS = 60  # at most, unless one frame takes longer


@dataclass(frozen=True)
class Step:
    """So many denoise steps of a loan are done, of so many."""

    done: int
    total: int


@dataclass(frozen=True)
class Made:
    """A frame of a loan is finished."""

    strength: float
    frame: Image.Image


def loan_seconds(num_parameters: int, num_frames: int, steps: int, size: int) -> int:
    """How long to ask for a GPU: frames of so many steps and of `size` squared pixels, by a transformer of so many
    parameters."""
    share = num_parameters / FLUX_PARAMETERS
    step = max(LEAST_STEP_SECONDS, share * STEP_SECONDS * (size / 512) ** 2)
    return math.ceil(START_SECONDS + share * LOAD_SECONDS + num_frames * steps * step)


def frames_of_loan(num_parameters: int, steps: int, size: int) -> int:
    """How many frames one loan makes, 1 or more."""
    one, two = (loan_seconds(num_parameters, num_frames, steps, size) for num_frames in (1, 2))
    return 1 + max(0, LOAN_SECONDS - one) // max(1, two - one)


def render(engine: Any, strengths: list[float], source: Image.Image, spec: EditSpec) -> Told:
    """Make frames in the process that has the GPU. An error of ours is the last item: of one that is raised there,
    `spaces` would tell no more than its name."""
    try:
        with engine.open_spec(Photo(source), spec, MAX_STRENGTH, source) as session:

            def make(send: Callable[[Step | Made], None]) -> None:
                for strength, frame in session.frames(strengths, lambda done, total: send(Step(done, total))):
                    send(Made(strength, frame))

            yield from in_thread(make, end=session.close)
    except KontextSliderError as error:
        yield error


class ZeroGpuEngine:
    """What the page needs of a `SliderEngine`; its sessions render inside `@spaces.GPU`."""

    def __init__(self, engine: Any) -> None:
        import spaces

        self.pipe = engine.pipe
        self._num_parameters = num_parameters = engine.pipe.transformer.num_parameters()

        def seconds(strengths: list[float], source: Image.Image, spec: EditSpec) -> int:
            return loan_seconds(num_parameters, len(strengths), spec.steps, spec.size)

        @spaces.GPU(duration=seconds)
        def lend(strengths: list[float], source: Image.Image, spec: EditSpec) -> Told:
            yield from render(engine, strengths, source, spec)

        self._lend: Lend = lend
        self._fits: ByteCache[Any] = ByteCache(TRANSFER_BYTES)

    def open(
        self, image: ImageLike | Photo, instruction: str, allow_extrapolation: bool = False, **settings: Any
    ) -> ZeroGpuSession:
        """As `SliderEngine.open`, but nothing is encoded yet."""
        spec = EditSpec.from_defaults(self.pipe.defaults, instruction, **settings)
        photo = image if isinstance(image, Photo) else read_photo(image)
        source = working_image(photo.on_white(), spec.size, 2 * self.pipe.vae_scale_factor)
        highest, may_drift = MAX_STRENGTH if allow_extrapolation else 1.0, not self.pipe.defaults.anchor_source
        most = frames_of_loan(self._num_parameters, spec.steps, spec.size)
        return ZeroGpuSession(photo, source, spec, highest, may_drift, self._fits, self._lend, most)


class ZeroGpuSession(Pictures):
    """What the page needs of an `EditSession`, with the same meaning and errors, and NoGpu where a loan is refused. May
    be used from several threads; one loan at a time.

    fits: a cache of transfers, of all edits. lend: takes a loan. most: frames of one.
    """

    preview_steps = 0  # a preview would be a second loan

    def __init__(
        self,
        photo: Photo,
        source: Image.Image,
        spec: EditSpec,
        highest: float,
        may_drift: bool,
        fits: ByteCache[Any],
        lend: Lend,
        most: int,
    ) -> None:
        super().__init__(photo, source, spec, highest, may_drift, fits, key=object())
        self._lend, self._most = lend, most
        self._lending = threading.Lock()
        self._frames: dict[float, Image.Image] = {0.0: source}
        self._wanted: float | None = None  # the strength of the newest `render`
        self._is_open = True

    @property
    def num_bytes(self) -> int:
        """As `Pictures.num_bytes`, with the frames."""
        return super().num_bytes + sum(map(bytes_of, self._frames.copy().values()))

    def has(self, strength: float) -> bool:
        self._check_open()
        return cache_strength(self._check_strength(strength)) in self._frames

    def want(self, strength: float) -> None:
        self._wanted = cache_strength(self._check_strength(strength))

    def render(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        self.want(strength)

        def check() -> None:
            self._check_open()
            if self._wanted != cache_strength(strength):
                raise Superseded(f"Strength {strength:g} is not rendered: a newer strength of this edit was asked for.")

        return dict(self._made([strength], check, on_step))[strength]

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        self._check_open()
        return self._made([self._check_strength(strength) for strength in strengths], self._check_open, on_step)

    def close(self) -> None:
        self._is_open = False
        self._frames.clear()

    def _frame_for_picture(self, strength: float, on_step: OnStep | None) -> Image.Image:
        return dict(self.frames([strength], on_step))[strength]

    def _made(
        self, strengths: Sequence[float], check: Callable[[], None], on_step: OnStep | None
    ) -> Iterator[tuple[float, Image.Image]]:
        """Frames in that order, the caller's to keep. A loan makes several that are missing, before the first of them
        is due."""
        check()
        missing = list(dict.fromkeys(cache_strength(strength) for strength in strengths if not self.has(strength)))
        total = len(missing) * self.steps
        for strength in strengths:
            if cache_strength(strength) in missing:
                before = total - len(missing) * self.steps
                group, missing = missing[: self._most], missing[self._most :]

                def count(done: int, _: int, before: int = before) -> None:
                    if on_step is not None:
                        on_step(before + done, total)

                self._borrow(group, check, count)
            frame = self._frames.get(cache_strength(strength))
            self._check_open()
            if frame is None:
                raise NoGpu("ZeroGPU ended a loan before its frame was finished. Try again.")
            yield strength, frame.copy()

    def _borrow(self, strengths: list[float], check: Callable[[], None], on_step: OnStep) -> None:
        """Make frames in one loan, which ends between two steps once `check` raises."""
        with self._lending:
            check()
            if not (missing := [strength for strength in strengths if strength not in self._frames]):
                return  # another thread has made them meanwhile
            try:
                with closing(self._lend(missing, self.source, self.spec)) as told:
                    for each in told:
                        if isinstance(each, KontextSliderError):
                            raise each
                        if isinstance(each, Made):
                            self._frames[cache_strength(each.strength)] = each.frame
                            continue
                        on_step(each.done, each.total)
                        if each.done < each.total:
                            check()
            except gr.Error as error:
                raise NoGpu(f"{error.title}: {str(error.message).strip()}") from error

    def _check_open(self) -> None:
        if not self._is_open:
            raise SessionClosed("This edit session is closed. Open the image again with engine.open(...).")
