"""An edit that is open: its source and instruction are encoded, and any strength of it is a denoise away."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..edit import EditSpec
from ..errors import InvalidInput, SessionClosed, Superseded
from ..images import Photo
from .cache import ByteCache, bytes_of, cache_strength
from .disk import FrameCache
from .full_size import Fit
from .order import grid
from .pictures import Pictures
from .queue import BatchSize, RenderQueue
from .sampling import EditSettings, OnStep, Sampler

if TYPE_CHECKING:
    from .shortcuts import Shortcuts

MAX_HELD = 32  # finished frames of a sweep that wait for those before them


class EditSession(Pictures):
    """Made by `SliderEngine.open`; a context manager. May be used from several threads.

    After `close` the settings stay, the encodings are released, and no frame can be rendered.

    Args:
        sampler: renders frames of this edit. shortcuts: those that it uses, or None.
        frames, fits: caches of finished frames and of transfers, of all edits. queue, batch: of the engine.
        highest: strength that may be rendered.
        source_is_frame: whether the model's frames are held to the source, which they approach at 0 (`residual.py`).
        source_at_zero: whether the frame at strength 0 is the source itself, as it always is where they are.
        open_preview: opens the same edit with so many steps.
        open_next: opens another edit of another photograph.
    """

    def __init__(
        self,
        photo: Photo,
        source: Image.Image,
        settings: EditSettings,
        sampler: Sampler,
        frames: ByteCache[Image.Image] | FrameCache,
        fits: ByteCache[Fit],
        queue: RenderQueue,
        batch: BatchSize,
        shortcuts: Shortcuts | None = None,
        highest: float = 1.0,
        source_is_frame: bool = False,
        source_at_zero: bool = True,
        open_preview: Callable[[int], EditSession] | None = None,
        open_next: Callable[[Photo, EditSpec], EditSession] | None = None,
    ):
        super().__init__(photo, source, settings.spec, highest, not source_is_frame, fits, settings)
        self.settings, self._frame_cache, self._queue, self._batch = settings, frames, queue, batch
        self.shortcuts, self._source_is_frame = shortcuts, source_is_frame
        self._source_at_zero = source_at_zero or source_is_frame
        self._sampler: Sampler | None = sampler  # None once the session is closed
        self._open_preview, self._open_next = open_preview, open_next
        self._preview: EditSession | None = None
        self._wanted: float | None = None  # the strength of the newest render or preview

    def close(self) -> None:
        """Release the encodings; renders under way end with SessionClosed. Closing twice is fine."""
        self._sampler = None
        if self._preview is not None:
            self._preview.close()
        self._queue.wake()

    @property
    def preview_steps(self) -> int:
        """Denoise steps of a preview: half of the session's; 0 for a session of one step, which has no preview."""
        return self.steps // 2

    def want(self, strength: float) -> None:
        """Say where the pointer is: a `render` or `preview` of another strength ends at its next step (Superseded)."""
        self._want(self._check_strength(strength))

    def has(self, strength: float) -> bool:
        """Whether the frame is there already, so that `render` would answer at once."""
        self._check_open()
        strength = self._check_strength(strength)
        return self._is_source(strength) or self._key(strength) in self._frame_cache

    def render(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """The frame at `strength` in [0, 1] (to 1.5 where the session extrapolates), a PIL image, the caller's to keep.
        At 0 it is the source, unless the session was opened with `source_at_zero=False`.

        At the speed "exact" it is what the pipeline's own call makes of this session's source, instruction, seed,
        steps, guidance and size, up to the rounding of a channel to the level beside; other speeds say what they
        may differ by (`shortcuts/`). A strength seen before (to four decimals) is served from the frame cache.
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
        if self.preview_steps == 0 or self._open_preview is None:
            raise InvalidInput("A frame of one step has no preview that would cost less: render it.")
        check = self._newest(strength)
        if self._preview is None:
            self._preview = self._open_preview(self.preview_steps)
        return self._preview._frame(strength, urgent=True, check=check, on_step=on_step)

    def then(
        self,
        instruction: str,
        strength: float | np.ndarray = 1.0,
        on_step: OnStep | None = None,
        *,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
    ) -> EditSession:
        """Open a further edit on what this one makes of the photograph at `strength`, a number or a map as `picture`'s.

        Settings that are None are this session's. This session stays open. With a strength that was seen before, the
        further edit has the same source, and so finds its frames. `on_step` counts the steps of this session's frames.
        Raises as `picture` and `SliderEngine.open`.
        """
        given = {"seed": seed, "steps": steps, "guidance": guidance, "size": size}
        known: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        spec = replace(self.spec, instruction=instruction, **known)
        if self._open_next is None:
            raise InvalidInput("This session was opened without an engine, which further edits need.")
        return self._open_next(self.edited(strength, on_step), spec)

    def sweep(self, n: int, on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """`n` evenly spaced frames, ascending from 0 to 1, as (strength, frame). See `frames`."""
        return self.frames(grid(n), on_step)

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """The frames of `strengths` in that order, as (strength, frame).

        At the speed "exact" the pixels are those of `render`, up to rounding where several are denoised at once; at
        others `render` interpolates across wider gaps, as somebody waits for it. A `render` from another thread, of
        this session or of another, goes first, between two denoise steps; what is under way goes on after it.
        `on_step(step, total)` counts the denoise steps of all frames that are missing at the start.
        """
        self._check_open()
        wanted = [self._check_strength(strength) for strength in strengths]
        return self._frames(wanted, on_step)

    def _frames(self, strengths: list[float], on_step: OnStep | None) -> Iterator[tuple[float, Image.Image]]:
        """Renders them in groups and yields them in order. Shortcuts may want coarse frames first: at most MAX_HELD
        frames wait for their turn, and one for which there is no room comes from the frame cache, or is made again."""
        queue = list(dict.fromkeys(cache_strength(strength) for strength in strengths if not self.has(strength)))
        if self.shortcuts is not None:
            queue = self.shortcuts.order(queue)
        report = _step_counter(on_step, len(queue) * self.steps)
        held: dict[float, Image.Image] = {}
        for strength in strengths:
            while cache_strength(strength) in queue:
                size = self._batch.size if self.shortcuts is None else self.shortcuts.batch_size(self._batch.size)
                group, steps_left = queue[:size], len(queue) * self.steps

                def count(step: int, _: int, left: int = steps_left, num_frames: int = len(group)) -> None:
                    report(left - step * num_frames)

                held |= self._make(group, False, self._check_open, count)
                held = dict(list(held.items())[-MAX_HELD:])  # the oldest are the coarse ones, which are due last
                queue = queue[len(group) :]
                report(len(queue) * self.steps)  # counts frames that took no step, too
            frame = held.pop(cache_strength(strength), None)
            yield strength, frame or self._frame(strength, False, self._check_open, on_step=None)

    def _frame_for_picture(self, strength: float, on_step: OnStep | None) -> Image.Image:
        self._check_open()
        return self.source if strength == 0 else self._frame(strength, True, self._check_open, on_step)

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
        self._queue.wake()

    def _check_open(self) -> Sampler:
        if self._sampler is None:
            raise SessionClosed("This edit session is closed. Open the image again with engine.open(...).")
        return self._sampler

    def _is_source(self, strength: float) -> bool:
        return self._source_at_zero and cache_strength(strength) == 0

    def _key(self, strength: float) -> Hashable:
        return self.settings, cache_strength(strength)

    def _frame(self, strength: float, urgent: bool, check: Callable[[], object], on_step: OnStep | None) -> Image.Image:
        return self._make([cache_strength(strength)], urgent, check, on_step).popitem()[1]

    def _make(
        self, strengths: list[float], urgent: bool, check: Callable[[], object], on_step: OnStep | None
    ) -> dict[float, Image.Image]:
        """Frames by strength, the caller's to keep: found, interpolated, or rendered together."""
        if any(map(self._is_source, strengths)):
            check()
            others = [strength for strength in strengths if not self._is_source(strength)]
            made = self._make(others, urgent, check, on_step) if others else {}
            return made | {0.0: self.source.copy()}
        cache, keys = self._frame_cache, {strength: self._key(strength) for strength in strengths}
        with self._queue.claim(list(keys.values()), urgent, check) as turn:
            generation = cache.generation
            found = {s: frame for s, key in keys.items() if (frame := cache.get(key)) is not None}
            fresh = self._interpolated([s for s in keys if s not in found], urgent)
            missing = [s for s in keys if s not in found and s not in fresh]
            if missing:
                with self._queue.hold(turn):
                    rendered = self._check_open().render(missing, turn, on_step)
                fresh |= zip(missing, rendered, strict=True)
            if self.shortcuts is not None:
                self.shortcuts.note(rendered=missing, interpolated=[s for s in fresh if s not in missing])
            for strength, frame in fresh.items():
                cache.put(keys[strength], frame, bytes_of(frame), generation)
        return {s: frame.copy() for s, frame in (found | fresh).items()}

    def _interpolated(self, strengths: list[float], interactive: bool) -> dict[float, Image.Image]:
        """Those frames that the shortcuts interpolate from finished ones."""
        self._check_open()
        if self.shortcuts is None:
            return {}

        def find(strength: float) -> Image.Image | None:
            is_source = strength == 0 and self._source_is_frame
            return self.source if is_source else self._frame_cache.get(self._key(strength))

        frames = {s: self.shortcuts.frame(s, interactive, find) for s in strengths}
        return {s: frame for s, frame in frames.items() if frame is not None}


def _step_counter(on_step: OnStep | None, total: int) -> Callable[[int], None]:
    """Takes how many of `total` steps are left, and calls `on_step` where these are fewer than before."""
    least = total

    def report(left: int) -> None:
        nonlocal least
        if left < least:
            least = left
            if on_step is not None:
                on_step(total - left, total)

    return report
