"""Hugging Face ZeroGPU: a GPU is lent for the length of one decorated call, in a process of its own.

Nothing that such a call changes survives in this process, so an edit on ZeroGPU is a set of values, and every frame
opens its session inside the call (the lent process keeps the engine's text and source caches while it lives).
Everywhere else, `session_opener` is `engine.open`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from PIL import Image

from kontext_slider.images import ImageLike, Photo, read_photo, working_image

OnStep = Callable[[int, int], None]

GPU_SECONDS = 60  # asked of ZeroGPU per frame; a frame of the 12-billion model takes a fraction of it


def on_zero_gpu() -> bool:
    """Whether this is a Space on ZeroGPU, which says so by this variable: the `spaces` package is in every Space.

    There `spaces` must be imported before torch touches CUDA.
    """
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def session_opener(engine: Any) -> Callable[..., Any]:
    """`engine.open`, or on ZeroGPU an equal of it whose sessions render inside `@spaces.GPU`."""
    if not on_zero_gpu():
        return engine.open
    import spaces

    from kontext_slider.engine.full_size import FullSize  # brings torch, which must come after spaces

    @spaces.GPU(duration=GPU_SECONDS)
    def show(strength: float, photo: Photo, instruction: str, settings: dict[str, Any]) -> Image.Image:
        with engine.open(photo, instruction, **settings) as session:
            return session.show(strength)

    def open_session(image: ImageLike, instruction: str, **settings: Any) -> LentSession:
        photo, pipe = read_photo(image), engine.pipe
        source = working_image(photo.on_white(), pipe.defaults.size, 2 * pipe.vae_scale_factor)
        full_size = FullSize(photo, source, may_drift=not pipe.defaults.anchor_source)
        return LentSession(source, full_size, lambda s: show(s, photo, instruction, settings))

    return open_session


class LentSession:
    """What the app needs of an `EditSession`, each frame made by `show` in a lent process (no step progress).

    source: the photograph at the model's size. full_size: a `FullSize`, which carries frames over to the photograph.
    Frames are remembered: a picture needs its own again.
    """

    preview_steps = 0  # a second loan for a preview costs more than the steps it saves

    def __init__(self, source: Image.Image, full_size: Any, show: Callable[[float], Image.Image]) -> None:
        self.photo: Photo = full_size.photo
        self.source = source
        self._full_size = full_size
        self._show = show
        self._frames: dict[float, Image.Image] = {0.0: source}

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

    def full_size_facts(self, strength: float) -> dict[str, Any]:
        """As `EditSession.full_size_facts`."""
        return self._full_size.facts(strength, self.show(strength))

    def want(self, strength: float) -> None:
        """A lent call cannot be called back."""

    def close(self) -> None:
        """Nothing but frames is held in this process."""
        self._frames.clear()
