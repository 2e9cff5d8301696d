"""The cached engine: open an edit once, then render any strength of it for the price of a denoise."""

from __future__ import annotations

from .engine import SliderEngine
from .order import ends_first
from .session import EditSession

__all__ = ["EditSession", "SliderEngine", "ends_first"]
