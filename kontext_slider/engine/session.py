"""An edit that is open: its source and instruction are encoded, and any strength of it is a denoise away."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..edit import check_strength
from ..errors import InvalidInput, SessionClosed, Superseded
from ..images import Photo
from .between import interpolate, neighbours
from .cache import ByteCache
from .denoise import Conditioning, OnStep
from .denoiser import projector_of
from .disk import FrameCache
from .full_size import FullSize, nodes_of
from .order import cache_strength, grid, streaming_order
from .render import EditRenderer
from .speed import Speed

if TYPE_CHECKING:
    from .engine import SliderEngine

MAX_HELD = 32  # finished frames of a sweep that wait for those before them


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
    speed: Speed  # its values, as a name may mean others in the next version, whose frames a folder may keep


class EditSession:
    """Made by `SliderEngine.open`; a context manager. May be used from several threads.

    `source` is the working image: the source at `size`, which is the size and framing of every frame. `photo` is the
    photograph that it was made from, which `picture` edits at its own size.
    After `close` these attributes stay, the encodings are let go, and no frame can be asked for.
    """

    def __init__(
        self,
        engine: SliderEngine,
        photo: Photo,
        source: Image.Image,
        settings: EditSettings,
        edit: Conditioning,
        frames: ByteCache[Image.Image] | FrameCache,
        highest: float = 1.0,
    ):
        self.photo = photo
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
        self._full_size = FullSize(photo, source, may_drift=not engine.pipe.defaults.anchor_source)
        self._renderer: EditRenderer | None = EditRenderer(engine, source, settings, edit)
        self._rendered: set[float] = set()  # strengths whose frames were not interpolated
        self._wanted: float | None = None  # the strength of the newest render or preview
        self._rough: EditSession | None = None  # this edit in the steps of a preview

    def __enter__(self) -> EditSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the encodings; renders under way end with SessionClosed. Closing twice is fine."""
        self._renderer = None
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

        At the speed "exact" it is what the pipeline's own call makes of this session's source, instruction, seed,
        steps, guidance and size, up to the rounding of a channel to the level beside; other speeds say what they are
        off by (`speed.py`). A strength seen before (to four decimals) is served from the frame cache.
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
            self._rough = self._engine._session(
                self.photo, self.source, settings, self._engine._previews, self._highest
            )
        return self._rough._frame(strength, urgent=True, check=check, on_step=on_step)

    def show(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        """What a person is shown: the untouched source at exactly 0, `render(strength)` elsewhere."""
        strength = self._check_strength(strength)
        if strength != 0:
            return self.render(strength, on_step)
        self._want(strength)
        return self.source.copy()

    def picture(
        self, strength: float | np.ndarray, on_step: OnStep | None = None, *, width: int | None = None
    ) -> Image.Image:
        """The edit at the photograph's own size, upright: RGB, or RGBA where the photograph is partly transparent.

        strength: one number in [0, 1] (to 1.5 where the session extrapolates), or a strength map: an array (H, W) of
            such numbers, of any size, stretched over the photograph. 0 is the photograph itself, to the last bit.
        width: for one strength, a picture at most so many pixels wide, as for an animation.

        The frame is the one of `render`, and `transfer.py` carries it over; a map takes the frames of a grid of eleven
        strengths that it needs. A newer request of this session does not take its place. Raises InvalidInput and
        SessionClosed.
        """
        if isinstance(strength, np.ndarray):
            return self._masked_picture(strength, on_step)
        strength = self._check_strength(strength)
        return self._full_size.picture(strength, self._frame_for_picture(strength, on_step), width)

    def full_size_facts(self, strength: float) -> dict[str, Any]:
        """What a saved picture says of its size, as JSON values: `size` and `edited_at` (width, height in pixels) and,
        where the model cannot be trusted at full size, `warning`, one sentence. Renders the frame if it is missing."""
        strength = self._check_strength(strength)
        return self._full_size.facts(strength, self._frame_for_picture(strength, on_step=None))

    def sweep(self, n: int, on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """`n` evenly spaced frames, ascending from 0 to 1, as (strength, frame). See `frames`."""
        return self.frames(grid(n), on_step)

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """The frames of `strengths` in that order, as (strength, frame).

        At the speed "exact" the pixels are those of `render`, up to rounding where several are denoised at once; at
        others `render` lets finished frames tell more of a frame, as it is waited for. Nothing is lost to a
        `render` from another thread, of this session or of another: it goes first, between two denoise steps, and what
        is under way goes on after it.
        `on_step(step, total)` counts the denoise steps of all frames that are missing at the start.
        """
        self._check_open()
        wanted = [self._check_strength(strength) for strength in strengths]
        return self._frames(wanted, on_step)

    def _frames(self, strengths: list[float], on_step: OnStep | None) -> Iterator[tuple[float, Image.Image]]:
        """Makes them in groups and yields them in order. Coarse frames are made before those between them, where those
        can be interpolated: at most MAX_HELD frames wait for their turn, and one for which there is no room comes from
        the frame cache, or is made again."""
        queue = list(dict.fromkeys(cache_strength(strength) for strength in strengths if not self.has(strength)))
        if self._engine.speed.learns:
            queue = streaming_order(queue, self._engine.speed.leading)
        tell = _counter(on_step, len(queue) * self.steps)
        held: dict[float, Image.Image] = {}
        for strength in strengths:
            while cache_strength(strength) in queue:
                group, left = queue[: self._group_size()], len(queue) * self.steps
                count = partial(_tell_batch, tell, left, len(group))
                held |= self._make(group, False, self._check_open, count)
                held = dict(list(held.items())[-MAX_HELD:])  # the oldest are the coarse ones, which are due last
                queue = queue[len(group) :]
                tell(len(queue) * self.steps)  # of frames that took no step, too
            frame = held.pop(cache_strength(strength), None)
            yield strength, frame or self._frame(strength, False, self._check_open, on_step=None)

    def _group_size(self) -> int:
        """How many frames to denoise at once: one until the others know which steps to skip, and no more than it takes
        until there are enough to tell others from."""
        if self._check_open().looks_for_skips:
            return 1
        missing = self._engine.speed.nodes - len(self._telling())
        batch = self._engine.batch.size
        return min(batch, missing) if self._engine.speed.learns and missing > 0 else batch

    def _frame_for_picture(self, strength: float, on_step: OnStep | None) -> Image.Image:
        self._check_open()
        return self.source if strength == 0 else self._frame(strength, True, self._check_open, on_step)

    def _masked_picture(self, strength_map: np.ndarray, on_step: OnStep | None) -> Image.Image:
        self._check_open()
        nodes = nodes_of(strength_map, self._highest)
        frames = {0.0: self.source} if nodes[0] == 0 else {}
        frames |= dict(self.frames([node for node in nodes if node > 0], on_step))
        return self._full_size.masked(frames, strength_map)

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

    def _check_open(self) -> EditRenderer:
        if self._renderer is None:
            raise SessionClosed("This edit session is closed. Open the image again with engine.open(...).")
        return self._renderer

    def _check_strength(self, strength: float) -> float:
        return check_strength(strength, self._highest)

    def _key(self, strength: float) -> Hashable:
        return self._settings, cache_strength(strength)

    def _frame(self, strength: float, urgent: bool, check: Callable[[], object], on_step: OnStep | None) -> Image.Image:
        return self._make([cache_strength(strength)], urgent, check, on_step).popitem()[1]

    def _make(
        self, strengths: list[float], urgent: bool, check: Callable[[], object], on_step: OnStep | None
    ) -> dict[float, Image.Image]:
        """Frames by strength, the caller's to keep: found, interpolated, or rendered together."""
        frames, device, keys = self._frame_cache, self._engine._device, {s: self._key(s) for s in strengths}
        with device.claim(list(keys.values()), urgent, check) as turn:
            era = frames.era
            made = {s: frame for s, key in keys.items() if (frame := frames.get(key)) is not None}
            fresh = {s: frame for s in keys if s not in made and (frame := self._between(s, urgent)) is not None}
            self._rendered.difference_update(fresh)  # forgotten since, and interpolated now: it tells of no other
            missing = [s for s in keys if s not in made and s not in fresh]
            if missing:
                with device.hold(turn):
                    rendered = self._check_open().render(missing, turn, on_step)
                fresh |= zip(missing, rendered, strict=True)
                self._rendered.update(missing)
            for strength, frame in fresh.items():
                frames.put(keys[strength], frame, 3 * frame.width * frame.height, era)
        return {s: frame.copy() for s, frame in (made | fresh).items()}

    def _telling(self) -> set[float]:
        """The strengths whose frames others may be told from: rendered ones, and 0 where that is the source."""
        return self._rendered | ({0.0} if self._is_source(0.0) else set())

    def _is_source(self, strength: float) -> bool:
        return strength == 0 and self._engine.pipe.defaults.anchor_source

    def _between(self, strength: float, urgent: bool) -> Image.Image | None:
        """The frame by its neighbours', where this speed allows it and they tell it well enough."""
        speed = self._engine.speed
        if speed.between is None:
            return None
        smooth = strength <= 1 and projector_of(self._engine.pipe).config.degree is not None
        reach = speed.hand_reach if urgent and smooth else speed.reach
        near = neighbours(tuple(self._telling()), strength, reach, speed.nodes)
        found = {s: self.source if self._is_source(s) else self._frame_cache.get(self._key(s)) for s in near}
        frames = {s: frame for s, frame in found.items() if frame is not None}
        if not near or len(frames) < len(near):
            return None
        return interpolate(frames, strength, speed.between, self._check_open().offsets_at)


def _counter(on_step: OnStep | None, total: int) -> Callable[[int], None]:
    """Takes how many of `total` steps are left, and tells `on_step` where these are fewer than before."""
    least = total

    def tell(left: int) -> None:
        nonlocal least
        if left < least:
            least = left
            if on_step is not None:
                on_step(total - left, total)

    return tell


def _tell_batch(tell: Callable[[int], None], left: int, num_frames: int, step: int, _: int) -> None:
    """The `on_step` of a batch of frames, before which so many steps were left."""
    tell(left - step * num_frames)
