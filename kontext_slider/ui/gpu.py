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

    @spaces.GPU(duration=GPU_SECONDS)
    def show(strength: float, image: Image.Image, instruction: str, settings: dict[str, Any]) -> Image.Image:
        with engine.open(image, instruction, **settings) as session:
            return session.show(strength)

    def open_session(image: Image.Image, instruction: str, **settings: Any) -> LentSession:
        return LentSession(lambda strength: show(strength, image, instruction, settings))

    return open_session


class LentSession:
    """What the app needs of an `EditSession`, each frame made by `show` in a lent process (no step progress)."""

    preview_steps = 0  # a second loan for a preview costs more than the steps it saves

    def __init__(self, show: Callable[[float], Image.Image]) -> None:
        self._show = show

    @property
    def source(self) -> Image.Image:
        return self._show(0.0)

    def show(self, strength: float, on_step: OnStep | None = None) -> Image.Image:
        return self._show(strength)

    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        for strength in strengths:
            yield strength, self._show(strength)

    def want(self, strength: float) -> None:
        """A lent call cannot be called back."""

    def close(self) -> None:
        """Nothing is held in this process."""
