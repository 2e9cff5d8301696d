"""The frames of one edit, denoised and decoded while a thread has the device.

Legend: B strengths, H, W sides of the frames; pixels (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ..anchor import anchored
from ..encoding import decode
from ..projector import ModulationOffsets
from .denoise import Conditioning, OnStep, denoise, prepare_scheduler, to_picture, to_pixels
from .denoiser import Denoiser, offsets_at, plain_denoiser, prepared_denoiser, projector_of
from .device import Turn
from .late_start import LateStart, Trail
from .prepared import Prepared
from .skips import Skips

if TYPE_CHECKING:
    from .engine import SliderEngine
    from .session import EditSettings


class EditRenderer:
    """What an open edit renders with: its encodings, and what its strengths share."""

    def __init__(self, engine: SliderEngine, source: Image.Image, settings: EditSettings, edit: Conditioning) -> None:
        self._engine, self._source, self._settings, self._edit = engine, source, settings, edit
        self._late_start = LateStart(Trail(engine._latents, settings), settings.steps, engine.speed, self.offsets_at)
        self._skips = Skips(engine.speed.skip_error)
        self._prepared: Prepared | None = None

    @property
    def looks_for_skips(self) -> bool:
        """Whether the next frame is to show which steps all others can do without."""
        return self._skips.are_wanted(self._settings.steps)

    @torch.no_grad()
    def render(self, strengths: Sequence[float], turn: Turn, on_step: OnStep | None) -> list[Image.Image]:
        """The frames; where the model anchors, held to the source at strength 0."""
        pipe = self._engine.pipe
        anchors = pipe.defaults.anchor_source
        asked = [strength for strength in strengths if not (anchors and strength == 0)]
        frames = {0.0: self._source.copy()} if len(asked) < len(strengths) else {}
        if asked:
            make = self._anchored if anchors and min(asked) < 1 else self._pixels
            pixels = make(asked, turn, on_step)
            frames |= {strength: to_picture(pipe, row[None]) for strength, row in zip(asked, pixels, strict=True)}
        return [frames[strength] for strength in strengths]

    @torch.no_grad()
    def offsets_at(self, strengths: Sequence[float]) -> ModulationOffsets:
        """The slider's offsets for this edit's text, (B, D) each."""
        return offsets_at(self._engine.pipe, self._edit, strengths)

    def _anchored(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> torch.Tensor:
        """Frames held to the source at strength 0, (B, 3, H, W). What the model's own frame at 0 loses of the source is
        found once for an edit, in one batch with the first frames where the device takes it."""
        losses = self._engine._losses
        lost, era = losses.get(self._settings), losses.era
        pixels = None
        if lost is None:
            together = len(strengths) < self._engine.batch.size and not self.looks_for_skips
            at_zero, *others = self._pixels([0.0, *strengths * together], turn, on_step if together else None).split(1)
            lost = to_pixels(self._engine.pipe, self._source).to(at_zero) - at_zero
            losses.put(self._settings, lost, lost.nbytes, era)
            pixels = torch.cat(others) if together else None
        if pixels is None:
            pixels = self._pixels(strengths, turn, on_step)
        return anchored(pixels, strengths, lost)

    def _pixels(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> torch.Tensor:
        """The model's own frames, (B, 3, H, W); in two halves where memory is short."""
        batch, middle = self._engine.batch, len(strengths) // 2
        try:
            pixels = decode(self._engine.pipe, self._latents(strengths, turn, on_step), self._settings.size)
            batch.went_well(len(strengths))
            return pixels
        except torch.OutOfMemoryError:
            if len(strengths) == 1:
                raise
        batch.ran_short(len(strengths))
        halves = (self._pixels(half, turn, None) for half in (strengths[:middle], strengths[middle:]))
        return torch.cat(list(halves))

    def _latents(self, strengths: list[float], turn: Turn, on_step: OnStep | None) -> torch.Tensor:
        """Denoised, (B, L, C). What is known of their first steps is taken for granted."""
        starts = {strength: self._late_start.guess(strength) for strength in strengths}
        groups: dict[int, list[float]] = {}
        for strength, start in starts.items():
            groups.setdefault(start.step if start else 0, []).append(strength)
        latents: dict[float, torch.Tensor] = {}
        for first, group in sorted(groups.items()):  # the longest way first, and it alone counts
            known = [start.latents for strength in group if (start := starts[strength])]
            begin = torch.cat(known) if known else self._edit.noise
            rows = self._steps(group, begin, first, turn, None if latents else on_step)
            latents |= zip(group, rows.split(1), strict=True)
        return torch.cat([latents[strength] for strength in strengths])

    def _steps(
        self, strengths: list[float], latents: torch.Tensor, first: int, turn: Turn, on_step: OnStep | None
    ) -> torch.Tensor:
        """The loop, from the latents before step `first`, (B, L, C). An urgent turn that waits goes first, between two
        steps."""
        device, noise = self._engine._device, self._edit.noise
        scheduler = prepare_scheduler(self._engine.pipe, self._settings.steps, noise.shape[1], noise.device)
        era = self._late_start.era
        denoiser = self._denoiser(scheduler.timesteps, strengths)
        computed = self._skips.skipping(denoiser.velocity, scheduler.sigmas, first == 0)
        with ExitStack() as applied:
            applied.enter_context(denoiser.applied())

            def before_step() -> None:
                turn.check()
                if not turn.urgent and device.urgent_turn_waits():
                    applied.close()
                    device.go_last(turn)
                    applied.enter_context(denoiser.applied())

            def velocity(z: torch.Tensor, step: int) -> torch.Tensor:
                if first == 0:
                    self._late_start.keep(strengths, step, z, era)
                return computed(z, step)

            latents = denoise(velocity, scheduler, latents, before_step, on_step, first)
        turn.check()
        return latents

    def _denoiser(self, timesteps: torch.Tensor, strengths: list[float]) -> Denoiser:
        """Of the edit; what all strengths share is prepared by the first."""
        engine, edit = self._engine, self._edit
        weights = engine._weights()
        if weights is None:
            return plain_denoiser(engine.pipe, edit, timesteps, strengths)
        if self._prepared is None or self._prepared.weights is not weights:
            place = projector_of(engine.pipe).config.place
            self._prepared = Prepared.of(engine.pipe.transformer, weights, edit, timesteps, place)
        return prepared_denoiser(engine.pipe, edit, self._prepared, strengths)
