"""Hugging Face ZeroGPU: there is a GPU for the length of one decorated call only, in a process of its own.

Nothing that such a call changes survives in this process. So an edit is a set of values here, and every frame opens its
session inside the call (that process keeps the engine's text and source caches while it lives).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from PIL import Image

from ..edit import EditSpec
from ..images import ImageLike, Photo, read_photo, working_image

OnStep = Callable[[int, int], None]
GPU_SECONDS = 60  # requested per frame; a frame of the 12-billion model takes a fraction of it


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU, which says so by this variable: the `spaces` package is in every Space.

    There `spaces` must be imported before torch touches CUDA.
    """
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


class ZeroGpuEngine:
    """What the page needs of a `SliderEngine`; its sessions render inside `@spaces.GPU`."""

    def __init__(self, engine: Any) -> None:
        import spaces

        @spaces.GPU(duration=GPU_SECONDS)
        def show(strength: float, photo: Photo, instruction: str, settings: dict[str, Any]) -> Image.Image:
            with engine.open(photo, instruction, **settings) as session:
                return session.show(strength)

        self.pipe = engine.pipe
        self._show = show

    def open(
        self, image: ImageLike | Photo, instruction: str, allow_extrapolation: bool = False, **settings: Any
    ) -> ZeroGpuSession:
        """As `SliderEngine.open`, but nothing is encoded yet."""
        spec = EditSpec.from_defaults(self.pipe.defaults, instruction, **settings)
        photo = image if isinstance(image, Photo) else read_photo(image)
        settings = settings | {"allow_extrapolation": allow_extrapolation}
        return ZeroGpuSession(photo, spec, self.pipe, lambda s: self._show(s, photo, instruction, settings))


class ZeroGpuSession:
    """What the page needs of an `EditSession`. `show(strength)` makes a frame elsewhere (no step progress).

    Frames are remembered: a picture needs its own again, and every call costs seconds.
    """

    preview_steps = 0  # a second call for a preview costs more than the steps it saves

    def __init__(self, photo: Photo, spec: EditSpec, pipe: Any, show: Callable[[float], Image.Image]) -> None:
        from ..engine.full_size import FullSize, edited  # brings torch, which must come after spaces

        self._edited = edited
        self.photo, self.spec = photo, spec
        self.source = working_image(photo.on_white(), spec.size, 2 * pipe.vae_scale_factor)
        self.instruction, self.seed, self.steps, self.guidance = spec.instruction, spec.seed, spec.steps, spec.guidance
        self._full_size = FullSize(photo, self.source, may_drift=not pipe.defaults.anchor_source)
        self._show = show
        self._frames: dict[float, Image.Image] = {0.0: self.source}

    def has(self, strength: float) -> bool:
        return strength in self._frames

    def show(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        if strength not in self._frames:
            self._frames[strength] = self._show(strength)
        return self._frames[strength].copy()

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        for strength in strengths:
            yield strength, self.show(strength)

    def picture(self, strength: float, *, width: int | None = None) -> Image.Image:
        """As `EditSession.picture`, worked out in this process."""
        return self._full_size.picture(strength, self.show(strength), width)

    def transfer(self, strength: float, frame: Image.Image | None = None) -> Any:
        """As `EditSession.transfer`."""
        return self._full_size.transfer(strength, frame or self.show(strength))

    def full_size_facts(self, strength: float) -> dict[str, Any]:
        """As `EditSession.full_size_facts`."""
        return self._full_size.facts(strength, self.show(strength))

    def edited(self, strength: float, on_step: OnStep | None = None) -> Photo:
        """As `EditSession.edited`."""
        facts = self.spec.facts() | self.full_size_facts(strength)
        return self._edited(self.photo, self.picture(strength), facts, strength)

    def want(self, strength: float) -> None:
        """A call that runs cannot be ended."""

    def close(self) -> None:
        """Nothing but frames is held in this process."""
        self._frames.clear()
