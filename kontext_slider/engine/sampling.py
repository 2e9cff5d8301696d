"""The algorithm: flow-matching Euler steps of a Kontext transformer, for several strengths of one edit.

All strengths start from one noise. The transformer sees target tokens and, behind them, the source's; the slider's
offsets say which strength each row of the batch has.

Legend: B strengths, L target tokens, C channels of a packed token, H and W sides of the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import SchedulerMixin
from PIL import Image
from torch import Tensor

from ..base import Conditioning, FastEdit, FastModel, Velocity
from ..edit import EditSpec
from ..errors import MissingSlider
from ..projector import ModulationOffsets, StrengthProjector
from ..residual import correct
from .cache import ByteCache
from .queue import BatchSize, RenderQueue, Turn
from .speed import Speed

if TYPE_CHECKING:
    from ..pipeline import KontextSliderPipeline
    from .shortcuts import Shortcuts

OnStep = Callable[[int, int], None]  # (step, total), steps counted 1..total


@dataclass(frozen=True)
class EditSettings:
    """What, besides the strength, a frame of this edit depends on; all values, so it is a cache key."""

    source_digest: str  # of the working image's pixels
    size: tuple[int, int]  # of the frames (width, height), pixels
    spec: EditSpec
    speed: Speed  # its values, as a name may mean others in the next version, whose frames a folder may keep


def denoise(
    velocity: Velocity,
    scheduler: SchedulerMixin,
    latents: Tensor,
    before_step: Callable[[], object],
    on_step: OnStep | None = None,
    first: int = 0,
) -> Tensor:
    """Euler steps from noise (1 or B, L, C), or from latents before step number `first`, to clean latents (B, L, C).

    What `before_step` or `on_step` raises ends the loop between two steps. `scheduler` carries the timesteps of this
    one call (`base.schedule`)."""
    scheduler.set_begin_index(first)
    for step, time in list(enumerate(scheduler.timesteps))[first:]:
        before_step()
        latents = scheduler.step(velocity(latents, step), time, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(step + 1, len(scheduler.timesteps))
    return latents


@dataclass(frozen=True)
class Denoiser:
    """A velocity at some strengths, and what must be attached to the transformer while it is computed."""

    velocity: Velocity
    attached: Callable[[], AbstractContextManager[None]]


class Sampler:
    """Renders frames of one edit. Its methods run in the thread that holds the queue's turn.

    Args:
        pipe: the pipeline, with a slider.
        edit: the encoded source, instruction and noise.
        source: the working image, to which frames are held where the model says `anchor_source`.
        settings: the key of this edit in caches.
        queue, batch: of the engine.
        residuals: a cache, for all edits, of what frames at strength 0 lack of their sources.
        fast: the engine's faster model; a function, as the engine may make it anew. It returns None where the
            transformer itself is used.
        shortcuts: of this edit; None: every frame is computed in full.
    """

    def __init__(
        self,
        pipe: KontextSliderPipeline,
        edit: Conditioning,
        source: Image.Image,
        settings: EditSettings,
        queue: RenderQueue,
        batch: BatchSize,
        residuals: ByteCache[Tensor],
        fast: Callable[[], FastModel | None],
        shortcuts: Shortcuts | None = None,
    ) -> None:
        self._pipe, self._edit, self._source, self._settings = pipe, edit, source, settings
        self._base, self._corrects = pipe.base, pipe.defaults.anchor_source
        self._queue, self._batch, self._residuals = queue, batch, residuals
        self._fast, self._shortcuts = fast, shortcuts
        self._opened: tuple[FastModel, FastEdit] | None = None  # this edit, in the fast model of the engine

    @torch.no_grad()
    def render(self, strengths: Sequence[float], turn: Turn, on_step: OnStep | None) -> list[Image.Image]:
        """The model's frames, residual corrected where it says `anchor_source`."""
        make = self._corrected if self._corrects and min(strengths) < 1 else self._pixels
        return list(map(self._base.to_picture, make(list(strengths), turn, on_step).split(1)))

    def _corrected(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> Tensor:
        """Frames with their share of the source residual, (B, 3, H, W). The residual is found once for an edit, in one
        batch with the first frames where the device takes it."""
        residual, generation = self._residuals.get(self._settings), self._residuals.generation
        pixels = None
        if residual is None:
            makes_schedule = self._shortcuts is not None and self._shortcuts.needs_schedule
            together = len(strengths) < self._batch.size and not makes_schedule
            first = [0.0, *strengths] if together else [0.0]
            at_zero, *others = self._pixels(first, turn, on_step if together else None).split(1)
            residual = self._base.to_pixels(self._source).to(at_zero) - at_zero
            self._residuals.put(self._settings, residual, residual.nbytes, generation)
            pixels = torch.cat(others) if together else None
        if pixels is None:
            pixels = self._pixels(strengths, turn, on_step)
        return correct(pixels, strengths, residual)

    def _pixels(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> Tensor:
        """The model's own frames, (B, 3, H, W); in two halves where memory is short."""
        try:
            pixels = self._base.decode(self._latents(strengths, turn, on_step), self._settings.size)
            self._batch.succeeded(len(strengths))
            return pixels
        except torch.OutOfMemoryError:
            if len(strengths) == 1:
                raise
        self._batch.failed(len(strengths))
        middle = len(strengths) // 2
        halves = (self._pixels(half, turn, None) for half in (strengths[:middle], strengths[middle:]))
        return torch.cat(list(halves))

    def _latents(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> Tensor:
        """Denoised, (B, L, C): in groups of frames that start at the same step."""
        starts = {s: self._shortcuts.start(s) if self._shortcuts else None for s in strengths}
        groups: dict[int, list[float]] = {}
        for strength, start in starts.items():
            groups.setdefault(start.step if start else 0, []).append(strength)
        latents: dict[float, Tensor] = {}
        for first, group in sorted(groups.items()):  # most steps first, and their steps alone are counted
            known = [start.latents for strength in group if (start := starts[strength])]
            begin = torch.cat(known) if known else self._edit.noise.latents
            rows = self._steps(group, begin, first, turn, None if latents else on_step)
            latents |= zip(group, rows.split(1), strict=True)
        return torch.cat([latents[strength] for strength in strengths])

    def _steps(self, strengths: list[float], latents: Tensor, first: int, turn: Turn, on_step: OnStep | None) -> Tensor:
        """From latents before step `first` to the end, (B, L, C). Between two steps an urgent turn goes first."""
        scheduler = self._base.schedule(self._settings.spec.steps, self._edit.noise.latents.shape[1])
        denoiser = self._denoiser(scheduler.timesteps, strengths)
        velocity = denoiser.velocity
        if self._shortcuts is not None:
            velocity = self._shortcuts.velocity(velocity, scheduler.sigmas, strengths, from_noise=first == 0)
        with ExitStack() as attached:
            attached.enter_context(denoiser.attached())

            def before_step() -> None:
                turn.check()
                if not turn.urgent and self._queue.urgent_turn_waits():
                    attached.close()
                    self._queue.go_last(turn)
                    attached.enter_context(denoiser.attached())

            latents = denoise(velocity, scheduler, latents, before_step, on_step, first)
        turn.check()
        return latents

    def _denoiser(self, timesteps: Tensor, strengths: list[float]) -> Denoiser:
        """The transformer with the slider attached, or the engine's faster model of it."""
        pipe, edit, model = self._pipe, self._edit, self._fast()
        if model is None:
            velocity = plain_velocity(pipe, edit, timesteps, len(strengths))
            return Denoiser(velocity, partial(pipe.slider_applied, strengths, edit.text.pooled))
        offsets = offsets_at(pipe, edit, strengths)
        if self._opened is None or self._opened[0] is not model:
            self._opened = model, model.open(edit, timesteps, projector_of(pipe).config.place)
        return Denoiser(self._opened[1].velocity_at(offsets), nullcontext)


def plain_velocity(pipe: KontextSliderPipeline, edit: Conditioning, timesteps: Tensor, batch: int = 1) -> Velocity:
    """The base model's own forward pass, for `batch` frames."""

    def velocity(latents: Tensor, step: int) -> Tensor:
        time = timesteps[step].to(latents.dtype) / 1000
        return pipe.base.velocity(pipe.transformer, latents.expand(batch, -1, -1), time, edit)

    return velocity


@torch.no_grad()
def offsets_at(pipe: KontextSliderPipeline, edit: Conditioning, strengths: Sequence[float]) -> ModulationOffsets:
    """The slider's offsets at B strengths, for this edit's text. Raises MissingSlider."""
    pooled = edit.text.pooled
    return projector_of(pipe)(torch.tensor(list(strengths), device=pooled.device), pooled)


def projector_of(pipe: KontextSliderPipeline) -> StrengthProjector:
    """The slider's. Raises MissingSlider where it was unloaded since the edit was opened."""
    if pipe.slider_projector is None:
        raise MissingSlider("This model has no slider weights any more. Load some with pipe.load_slider(...) first.")
    return pipe.slider_projector
