"""The cached engine: open an edit once, then render any strength of it for the price of a denoise.

The engine and its sessions are imported on first use: the order of strengths, all that the page needs, loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .order import ends_first, grid, interpolation_errors, next_strength, sketch

if TYPE_CHECKING:
    from .engine import SliderEngine
    from .session import EditSession

__all__ = [
    "EditSession",
    "SliderEngine",
    "ends_first",
    "grid",
    "interpolation_errors",
    "next_strength",
    "sketch",
]


def __getattr__(name: str) -> Any:
    if name == "SliderEngine":
        from .engine import SliderEngine

        return SliderEngine
    if name == "EditSession":
        from .session import EditSession

        return EditSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
