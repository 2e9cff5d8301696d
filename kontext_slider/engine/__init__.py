"""The cached engine: open an edit once, then render any strength of it for the price of a denoise."""

from __future__ import annotations

from .engine import SliderEngine
from .order import ends_first, grid, next_strength, sketch, sketch_difference
from .session import EditSession

__all__ = [
    "EditSession",
    "SliderEngine",
    "ends_first",
    "grid",
    "next_strength",
    "sketch",
    "sketch_difference",
]
