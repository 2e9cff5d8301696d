"""The browser app: `create_app(engine)` builds it, `launch.run(args)` serves it."""

from __future__ import annotations

from typing import Any

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from .layout import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
