"""What was computed once and may be wanted again, as much of it as fits into a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from PIL import Image

from ..errors import InvalidInput

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """Least recently used entries leave when the sum of the sizes passes `max_bytes`. Safe to share by threads.

    Keys are values (texts, numbers, digests), so equal requests find each other however they were made.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = check_max_bytes(max_bytes)
        self.num_bytes = 0
        self.generation = 0  # grows with every `clear`
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._entries

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Value, num_bytes: int, generation: int | None = None) -> None:
        """Keep `value`, which takes `num_bytes`; one larger than the whole cache is not kept, nor one that was begun in
        another `generation`: it may depend on what was cleared since."""
        with self._lock:
            if generation not in (None, self.generation):
                return
            self._drop(key)
            if num_bytes > self.max_bytes:
                return
            self._entries[key] = (value, num_bytes)
            self.num_bytes += num_bytes
            while self.num_bytes > self.max_bytes:
                self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.num_bytes = 0
            self.generation += 1

    def _drop(self, key: Hashable) -> None:
        if key in self._entries:
            self.num_bytes -= self._entries.pop(key)[1]


def check_max_bytes(max_bytes: int) -> int:
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
        raise InvalidInput(f"A cache size must be a whole number of bytes, 0 or more, not {max_bytes!r}.")
    return max_bytes


def bytes_of(image: Image.Image) -> int:
    """What a picture takes in memory: Pillow has four bytes for a pixel of colour."""
    return (1 if len(image.getbands()) == 1 else 4) * image.width * image.height


def cache_strength(strength: float) -> float:
    """Strengths that agree to four decimals are one frame."""
    return round(strength, 4)
