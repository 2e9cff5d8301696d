"""An edit that is open: its source and instruction are encoded, and any strength of it is a denoise away."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..anchor import anchored
from ..errors import InvalidInput, SessionClosed, Superseded
from ..projector import check_strengths
from .cache import ByteCache
from .denoise import Conditioning, OnStep, decode, denoise, prepare_scheduler, to_picture, to_pixels
from .device import Turn
from .disk import FrameCache
from .order import cache_strength, grid

if TYPE_CHECKING:
    from .engine import SliderEngine


@dataclass(frozen=True)
class EditSettings:
    """What, besides the strength, a frame of this edit depends on; all values, so it is a cache key."""

    source_digest: str  # of the working image's pixels
    size: tuple[int, int]  # (width, height), pixels
    instruction: str
    max_sequence_length: int
    seed: int
    steps: int
    guidance: float


class EditSession:
    """Made by `SliderEngine.open`; a context manager. May be used from several threads.

    `source` is the working image: the source at `size`, which is the size and framing of every frame.
    After `close` these attributes stay, the encodings are let go, and no frame can be asked for.
    """

    def __init__(
        self,
        engine: SliderEngine,
        source: Image.Image,
        settings: EditSettings,
        edit: Conditioning,
        frames: ByteCache[Image.Image] | FrameCache,
        highest: float = 1.0,
    ):
        self.source = source
        self.instruction = settings.instruction
        self.seed = settings.seed
        self.steps = settings.steps
        self.guidance = settings.guidance
        self.size = settings.size
        self._engine = engine
        self._settings = settings
        self._frame_cache = frames
        self._highest = highest
        self._edit: Conditioning | None = edit
        self._wanted: float | None = None  # the strength of the newest render or preview
        self._rough: EditSession | None = None  # this edit in the steps of a preview

    def __enter__(self) -> EditSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the encodings; renders under way end with SessionClosed. Closing twice is fine."""
        self._edit = None
        if self._rough is not None:
            self._rough.close()
        self._engine._device.wake()

    @property
    def preview_steps(self) -> int:
        """Denoise steps of a preview: half of the session's; 0 for a session of one step, which has no preview."""
        return self.steps // 2

    def want(self, strength: float) -> None:
        """Say where the hand is: a `render` or `preview` of another strength ends at its next step (Superseded)."""
        self._want(self._check_strength(strength))

    def has(self, strength: float) -> bool:
        """Whether the frame is there already, so that `render` would answer at once."""
        self._check_open()
        return self._key(self._check_strength(strength)) in self._frame_cache

    def render(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """The frame at `strength` in [0, 1] (to 1.5 where the session extrapolates), a PIL image, the caller's to keep.

        Equal, pixel for pixel, to the pipeline's own call with this session's source, instruction, seed, steps,
        guidance and size. A strength seen before (to four decimals) is served from the frame cache.
        `on_step(step, total)` is called after each denoise step, step = 1..total, in the calling thread; what it
        raises ends the render. It is not called for a frame that is cached or being made by another thread.

        Raises InvalidInput; SessionClosed; Superseded when another thread asks this session for another
        strength before this one's last step.
        """
        strength = self._check_strength(strength)
        return self._frame(strength, urgent=True, check=self._newest(strength), on_step=on_step)

    def preview(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """A rough frame at `strength` in `preview_steps` steps, to be looked at until `render` has the exact one.

        The frame is what a session of that many steps would render. It is remembered apart from exact frames: `has`,
        `render`, `frames` and the frames on disk know nothing of it. Otherwise as `render`, with the same errors;
        InvalidInput also for a session of one step.
        """
        strength = self._check_strength(strength)
        if self.preview_steps == 0:
            raise InvalidInput("A frame of one step has no preview that would cost less: render it.")
        check = self._newest(strength)
        if self._rough is None:
            settings = replace(self._settings, steps=self.preview_steps)
            self._rough = self._engine._session(self.source, settings, self._engine._previews, self._highest)
        return self._rough._frame(strength, urgent=True, check=check, on_step=on_step)

    def show(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """What a person is shown: the untouched source at exactly 0, `render(strength)` elsewhere."""
        strength = self._check_strength(strength)
        if strength != 0:
            return self.render(strength, on_step)
        self._want(strength)
        return self.source.copy()

    def sweep(self, n: int, on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """`n` evenly spaced frames, ascending from 0 to 1, as (strength, frame). See `frames`."""
        return self.frames(grid(n), on_step)

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """The frames of `strengths` in that order, one denoise each, as (strength, frame).

        The pixels are those of `render`. Nothing is lost to a `render` from another thread, of this session or of
        another: it goes first, between two denoise steps, and the frame under way goes on after it.
        `on_step(step, total)` counts the denoise steps of all frames that are missing at the start.
        """
        self._check_open()
        wanted = [self._check_strength(strength) for strength in strengths]
        return self._frames(wanted, on_step)

    def _frames(self, strengths: list[float], on_step: OnStep | None) -> Iterator[tuple[float, Image.Image]]:
        missing = {cache_strength(strength) for strength in strengths if not self.has(strength)}
        total, done = len(missing) * self.steps, 0
        for strength in strengths:
            count = None if on_step is None else _counting(on_step, done, total)
            frame = self._frame(strength, urgent=False, check=self._check_open, on_step=count)
            if cache_strength(strength) in missing:
                missing.remove(cache_strength(strength))
                done += self.steps
            yield strength, frame

    def _newest(self, strength: float) -> Callable[[], None]:
        """Take the place of any older request; what is returned raises once a newer one takes this one's."""
        self._want(strength)

        def check() -> None:
            self._check_open()
            if self._wanted != cache_strength(strength):
                raise Superseded(f"Strength {strength:g} is not rendered: a newer strength of this edit was asked for.")

        return check

    def _want(self, strength: float) -> None:
        self._check_open()
        self._wanted = cache_strength(strength)
        self._engine._device.wake()

    def _check_open(self) -> Conditioning:
        if self._edit is None:
            raise SessionClosed("This edit session is closed. Open the image again with engine.open(...).")
        return self._edit

    def _check_strength(self, strength: float) -> float:
        return check_strength(strength, self._highest)

    def _key(self, strength: float) -> Hashable:
        return self._settings, cache_strength(strength)

    def _frame(self, strength: float, urgent: bool, check: Callable[[], object], on_step: OnStep | None) -> Image.Image:
        frames, device, key = self._frame_cache, self._engine._device, self._key(strength)
        with device.claim(key, urgent, check) as turn:
            frame = frames.get(key)
            if frame is None:
                with device.hold(turn):
                    frame = self._render(strength, turn, on_step)
                frames.put(key, frame, 3 * frame.width * frame.height)
        return frame.copy()

    @torch.no_grad()
    def _render(self, strength: float, turn: Turn, on_step: OnStep | None) -> Image.Image:
        """The frame, while this thread has the device; where the model anchors, held to the source at strength 0."""
        pipe = self._engine.pipe
        if not pipe.defaults.anchor_source or strength >= 1:
            return to_picture(pipe, self._pixels(strength, turn, on_step))
        if strength == 0:
            return self.source.copy()
        lost = self._lost(turn)
        return to_picture(pipe, anchored(self._pixels(strength, turn, on_step), [strength], lost))

    def _lost(self, turn: Turn) -> torch.Tensor:
        """What the model's frame at strength 0 loses of the source, (1, 3, H, W); denoised once for an edit."""
        lost = self._engine._losses.get(self._settings)
        if lost is None:
            frame = self._pixels(0.0, turn, on_step=None)
            lost = to_pixels(self._engine.pipe, self.source).to(frame) - frame
            self._engine._losses.put(self._settings, lost, lost.nbytes)
        return lost

    def _pixels(self, strength: float, turn: Turn, on_step: OnStep | None) -> torch.Tensor:
        """Denoise and decode the model's own frame, (1, 3, H, W) in [0, 1]."""
        pipe, device, edit = self._engine.pipe, self._engine._device, self._check_open()
        scheduler = prepare_scheduler(pipe, self.steps, edit.noise.shape[1], edit.noise.device)
        with ExitStack() as applied:
            applied.enter_context(pipe.slider_applied([strength], edit.text.pooled))

            def before_step() -> None:
                turn.check()
                if not turn.urgent and device.urgent_turn_waits():
                    applied.close()
                    device.go_last(turn)
                    applied.enter_context(pipe.slider_applied([strength], edit.text.pooled))

            latents = denoise(pipe.transformer, scheduler, edit, before_step, on_step)
        turn.check()
        return decode(pipe, latents, self.size)


def check_strength(strength: float, highest: float = 1.0) -> float:
    """One number in [0, `highest`]; InvalidInput for anything else, a list included."""
    if not isinstance(strength, Real):
        raise InvalidInput(f"The strength must be one number from 0 to {highest:g}, not {strength!r}.")
    return check_strengths(strength, highest)[0]


def _counting(on_step: OnStep, done: int, total: int) -> OnStep:
    return lambda step, _: on_step(done + step, max(total, done + step))
