"""The cached engine: open an edit once, then render any strength of it for the price of a denoise."""

from __future__ import annotations

from .engine import SliderEngine
from .session import EditSession, ends_first

__all__ = ["EditSession", "SliderEngine", "ends_first"]
