"""A strength slider for instruction-based image editing with FLUX.1 Kontext.

Public names are imported on first use: `import kontext_slider` loads neither torch nor a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .edit import EditDefaults, EditSpec, check_strengths
    from .engine import EditSession, SliderEngine
    from .errors import (
        CheckpointError,
        InvalidInput,
        KontextSliderError,
        MissingSlider,
        SessionClosed,
        Superseded,
        UnreadableImage,
    )
    from .modulation import attach_offsets, offsets_attached
    from .pipeline import KontextSliderPipeline
    from .presets import PRESETS, Preset, load_pipeline
    from .projector import ModulationOffsets, StrengthProjector

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "CheckpointError",
    "EditDefaults",
    "EditSession",
    "EditSpec",
    "InvalidInput",
    "KontextSliderError",
    "KontextSliderPipeline",
    "MissingSlider",
    "ModulationOffsets",
    "Preset",
    "SessionClosed",
    "SliderEngine",
    "StrengthProjector",
    "Superseded",
    "UnreadableImage",
    "attach_offsets",
    "check_strengths",
    "load_pipeline",
    "offsets_attached",
]

_HOMES = {
    "edit": ("EditDefaults", "EditSpec", "check_strengths"),
    "engine": ("EditSession", "SliderEngine"),
    "errors": (
        "CheckpointError",
        "InvalidInput",
        "KontextSliderError",
        "MissingSlider",
        "SessionClosed",
        "Superseded",
        "UnreadableImage",
    ),
    "modulation": ("attach_offsets", "offsets_attached"),
    "pipeline": ("KontextSliderPipeline",),
    "presets": ("PRESETS", "Preset", "load_pipeline"),
    # diffusers resolves a component entry ["kontext_slider", "StrengthProjector"] of a model_index.json by asking
    # the named module for the class and for its base class, ModelMixin.
    "projector": ("ModelMixin", "ModulationOffsets", "StrengthProjector"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
