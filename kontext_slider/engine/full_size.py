"""The frames of one edit as pictures of the photograph's own size (`transfer.py`)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..drift import Drift, fit_in_place
from ..edit import EarlierEdit
from ..errors import InvalidInput
from ..images import Photo
from ..strength_map import share_of
from ..transfer import Transfer, apply, check_strength_map
from .cache import ByteCache, bytes_of, cache_strength

Fit = tuple[Transfer, Drift | None]  # of one frame
UNSURE_SHARE = 0.5  # of the edit that comes from the enlarged frame: from here on the result says so


class FullSize:
    """Maps frames of one edit to the photograph. May be used from several threads.

    photo: the photograph. source: the same at the model's size, which the frames have as well. may_drift: whether the
    model may move or zoom its frames, so that each is checked for it (`drift.py`) and put back in place; frames that
    are held to the source cannot. fits: a cache of transfers, of all edits. key: of this edit in it.
    """

    def __init__(self, photo: Photo, source: Image.Image, may_drift: bool, fits: ByteCache[Fit], key: Hashable) -> None:
        self.photo = photo
        self._source = source
        self._may_drift = may_drift
        self._fits, self._key = fits, key
        self._reduced: Image.Image | None = None  # the photograph at the width that was asked for last

    @property
    def num_bytes(self) -> int:
        """What the photograph takes in memory: at its own size, at the model's, and at the width of an animation."""
        held = [self.photo.image, self._source, *filter(None, [self._reduced])]
        return sum(bytes_of(image) for image in held)

    def picture(self, strength: float, frame: Image.Image, width: int | None = None) -> Image.Image:
        """The edit at the photograph's own size, or at most `width` pixels wide: RGB, or RGBA as the photograph. The
        photograph itself at strength 0.

        frame: the model's, at `strength`.
        """
        photograph = self._photograph(width)
        return photograph.copy() if strength == 0 else self._fit(strength, frame)[0].apply(photograph)

    def transfer(self, strength: float, frame: Image.Image) -> Transfer:
        """The transfer from the source to `frame`, the identity at strength 0."""
        return self._fit(strength, frame)[0]

    def masked(
        self, frames: Mapping[float, Image.Image], strength_map: np.ndarray, width: int | None = None
    ) -> Image.Image:
        """The edit with a strength for every pixel, linear between `frames` (by strength). See `transfer.apply`."""
        transfers = {strength: self._fit(strength, frame)[0] for strength, frame in frames.items()}
        return apply(transfers, self._photograph(width), np.clip(strength_map, min(frames), max(frames)))

    def facts(self, strength: float, frame: Image.Image) -> dict[str, Any]:
        """What a saved picture says of its size, as JSON values: `size`, `edited_at` (width, height in pixels); where a
        drift was undone, `drift`: its `shift` in pixels (right, down) at the model's size and its `scale`; and, where
        much of the edit is taken from the enlarged frame, `warning`, a sentence."""
        width, height = self._source.size
        facts: dict[str, Any] = {"size": list(self.photo.image.size), "edited_at": [width, height]}
        if strength == 0:
            return facts
        transfer, drift = self._fit(strength, frame)
        if drift is not None:
            facts["drift"] = {"shift": [round(pixels, 2) for pixels in drift.shift], "scale": round(drift.scale, 4)}
        if self.photo.image.width > width and transfer.detail_share > UNSURE_SHARE:
            facts["warning"] = (
                f"Most of this edit is new texture or shape, which the model drew at {width} x {height} pixels: "
                "at full size it looks soft."
            )
        return facts

    def _photograph(self, width: int | None) -> Image.Image:
        """The photograph, scaled down where it is wider than `width`."""
        full, reduced = self.photo.image, self._reduced
        if width is None or full.width <= width:
            return full
        if reduced is None or reduced.width != width:
            height = max(1, round(full.height * width / full.width))
            self._reduced = reduced = full.resize((width, height), Image.Resampling.LANCZOS)
        return reduced

    def _fit(self, strength: float, frame: Image.Image) -> Fit:
        if strength == 0:
            return Transfer.identity(self._source.size), None
        key = self._key, cache_strength(strength)
        found, generation = self._fits.get(key), self._fits.generation
        if found is None:
            plain = not self._may_drift
            found = (Transfer.fit(self._source, frame), None) if plain else fit_in_place(self._source, frame)
            self._fits.put(key, found, found[0].num_bytes, generation)
        return found


def edited(photo: Photo, image: Image.Image, facts: Mapping[str, Any], strength: float | np.ndarray) -> Photo:
    """The photograph after an edit that made `image` of it at `strength`, a number or a map; `facts`: of the edit."""
    number, share = share_of(strength)
    kept = {name: value for name, value in facts.items() if name != "size"}  # the photograph has one size all along
    return photo.after(EarlierEdit(kept, number, share), image)


def nodes_of(strength_map: np.ndarray, highest: float) -> list[float]:
    """The strengths, multiples of .1, that a map needs frames at: all within its range and one on either side.

    Raises InvalidInput for values outside [0, `highest`] and for an array that is no map.
    """
    values = check_strength_map(strength_map)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > highest:
        raise InvalidInput(f"A strength map has values from 0 to {highest:g}, not {low:g} to {high:g}.")
    low, high = cache_strength(low), cache_strength(high)  # .6 in float32 is more than .6
    return [tenth / 10 for tenth in range(math.floor(low * 10), math.ceil(high * 10) + 1)]
