"""What an open edit makes of its photograph. Whoever renders its frames derives from `Pictures`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Self

import numpy as np
from PIL import Image

from ..edit import EditSpec, check_strength
from ..images import Photo
from ..strength_map import share_of
from ..transfer import Transfer
from .cache import ByteCache
from .full_size import Fit, FullSize, edited, nodes_of

OnStep = Callable[[int, int], None]  # steps done, steps in all


class Pictures(ABC):
    """An open edit's settings, and its pictures at the photograph's own size. A context manager.

    `source` is the working image: the source at `size`, which is the size and framing of every frame. `photo` is the
    photograph that it was made from. They stay after `close`.

    highest: strength that may be rendered. may_drift, fits, key: see `FullSize`.
    """

    def __init__(
        self,
        photo: Photo,
        source: Image.Image,
        spec: EditSpec,
        highest: float,
        may_drift: bool,
        fits: ByteCache[Fit],
        key: Hashable,
    ) -> None:
        self.photo, self.source, self.size, self.spec = photo, source, source.size, spec
        self.instruction, self.seed, self.steps, self.guidance = spec.instruction, spec.seed, spec.steps, spec.guidance
        self._highest = highest
        self._full_size = FullSize(photo, source, may_drift, fits, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release what is held for further frames."""

    @abstractmethod
    def frames(self, strengths: Iterable[float], on_step: OnStep | None = None) -> Iterator[tuple[float, Image.Image]]:
        """The frames of `strengths` in that order, as (strength, frame)."""

    @abstractmethod
    def _check_open(self) -> object:
        """Raise SessionClosed after `close`."""

    @abstractmethod
    def _frame_for_picture(self, strength: float, on_step: OnStep | None) -> Image.Image:
        """The frame at `strength`, the source at 0. Raises SessionClosed."""

    @property
    def num_bytes(self) -> int:
        """What the open edit takes in main memory, apart from caches of all edits: most of all its photograph."""
        return self._full_size.num_bytes

    def picture(
        self, strength: float | np.ndarray, on_step: OnStep | None = None, *, width: int | None = None
    ) -> Image.Image:
        """The edit at the photograph's own size, upright: RGB, or RGBA where the photograph is partly transparent.

        strength: one number in [0, 1] (to 1.5 where the session extrapolates), or a strength map: an array (H, W) of
            such numbers, of any size, stretched over the photograph. 0 is the photograph itself, to the last bit.
        width: a picture at most so many pixels wide, as for an animation.

        The frame is the one of `render`, and `transfer.py` carries it over; a map takes the frames of a grid of eleven
        strengths that it needs. A newer request of this session does not take its place. Raises InvalidInput and
        SessionClosed.
        """
        if isinstance(strength, np.ndarray):
            return self._masked_picture(strength, on_step, width)
        strength = self._check_strength(strength)
        return self._full_size.picture(strength, self._frame_for_picture(strength, on_step), width)

    def transfer(self, strength: float, frame: Image.Image | None = None) -> Transfer:
        """The edit at `strength` as a function of the photograph, by which `picture` is made.

        frame: the one of that strength, where it is at hand; else it is rendered if it is missing. Raises InvalidInput
        and SessionClosed."""
        strength = self._check_strength(strength)
        return self._full_size.transfer(strength, frame or self._frame_for_picture(strength, on_step=None))

    def full_size_facts(self, strength: float) -> dict[str, Any]:
        """What a saved picture says of its size, as JSON values: `size` and `edited_at` (width, height in pixels) and,
        where the model cannot be trusted at full size, `warning`, one sentence. Renders the frame if it is missing."""
        strength = self._check_strength(strength)
        return self._full_size.facts(strength, self._frame_for_picture(strength, on_step=None))

    def edited(self, strength: float | np.ndarray = 1.0, on_step: OnStep | None = None) -> Photo:
        """`picture(strength)` as a photograph to edit further: with the name, transparency, profile and camera data of
        this one, and this edit among its `earlier_edits`. Raises as `picture`."""
        image = self.picture(strength, on_step)
        facts = self.spec.facts() | self.full_size_facts(share_of(strength)[0])
        return edited(self.photo, image, facts, strength)

    def _masked_picture(self, strength_map: np.ndarray, on_step: OnStep | None, width: int | None) -> Image.Image:
        self._check_open()
        nodes = nodes_of(strength_map, self._highest)
        frames = {0.0: self.source} if nodes[0] == 0 else {}
        frames |= dict(self.frames([node for node in nodes if node > 0], on_step))
        return self._full_size.masked(frames, strength_map, width)

    def _check_strength(self, strength: float) -> float:
        return check_strength(strength, self._highest)
