"""A strength slider for instruction-based image editing with FLUX.1 Kontext.

Public names are imported on first use: `import kontext_slider` loads neither torch nor a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .edit import EditDefaults as EditDefaults
    from .edit import EditSpec as EditSpec
    from .edit import check_strengths as check_strengths
    from .engine import EditSession as EditSession
    from .engine import SliderEngine as SliderEngine
    from .errors import *  # noqa: F403
    from .modulation import attach_offsets as attach_offsets
    from .modulation import offsets_attached as offsets_attached
    from .pipeline import KontextSliderPipeline as KontextSliderPipeline
    from .presets import PRESETS as PRESETS
    from .presets import Preset as Preset
    from .presets import load_pipeline as load_pipeline
    from .projector import ModulationOffsets as ModulationOffsets
    from .projector import StrengthProjector as StrengthProjector

__version__ = "0.1.0"

_HOMES = {
    "edit": "EditDefaults EditSpec check_strengths",
    "engine": "EditSession SliderEngine",
    "errors": "CheckpointError InvalidInput KontextSliderError MissingSlider SessionClosed Superseded UnreadableImage",
    "modulation": "attach_offsets offsets_attached",
    "pipeline": "KontextSliderPipeline",
    "presets": "PRESETS Preset load_pipeline",
    # diffusers resolves a component entry ["kontext_slider", "StrengthProjector"] of a model_index.json by asking
    # the named module for the class and for its base class, ModelMixin.
    "projector": "ModelMixin ModulationOffsets StrengthProjector",
}
__all__ = sorted(name for names in _HOMES.values() for name in names.split() if name != "ModelMixin")  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
