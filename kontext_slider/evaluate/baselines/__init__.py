"""Other ways to get a slider out of the same base model, behind one signature, to be measured beside ours.

A method is `(pipe, image, instruction, strengths, seed) -> frames`. All run the base model without our slider,
on the same noise and guidance. Sources: the method's paper, beside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kontext_slider.evaluate.baselines.attention import AttentionReweighting, Grag
from kontext_slider.evaluate.baselines.fades import LatentCrossFade, pixel_cross_fade
from kontext_slider.evaluate.baselines.guidance import AdaOr, CfgScale, FlowSlider, GuidanceScale, VeloEdit
from kontext_slider.evaluate.baselines.lora import ConceptSlider
from kontext_slider.evaluate.baselines.method import ByScale, Method, by_morpher, ours
from kontext_slider.evaluate.baselines.modulation import ModulationScale
from kontext_slider.evaluate.baselines.text import EmbeddingSteering, PadTokens
from kontext_slider.pipeline import KontextSliderPipeline

__all__ = ["BASELINES", "Method", "available", "by_morpher", "ours"]

CONCEPT_SLIDER = "concept-slider"
BASELINES: dict[str, Method] = {
    "pixel-cross-fade": pixel_cross_fade,
    "latent-cross-fade": LatentCrossFade(),
    "cfg-scale": CfgScale(),
    "guidance-scale": GuidanceScale(),
    "attention-reweighting": AttentionReweighting(),
    "grag": Grag(),
    "modulation-scale": ModulationScale(),
    "pad-tokens": PadTokens(),
    "embedding-steering": EmbeddingSteering(),
    "velo-edit": VeloEdit(),
    "flow-slider": FlowSlider(),
    "ada-or": AdaOr(),
    CONCEPT_SLIDER: ConceptSlider(),
}


def available(
    pipe: KontextSliderPipeline, names: Sequence[str] | None = None, concept_sliders: Path | None = None
) -> dict[str, Method]:
    """The baselines of some names; without names, all that can run on a pipeline.

    concept_sliders: the folder of CONCEPT_SLIDER."""
    made = BASELINES | {CONCEPT_SLIDER: ConceptSlider(folder=concept_sliders)}
    if names is not None:
        return {name: made[name] for name in names}
    return {
        name: method for name, method in made.items() if not (isinstance(method, ByScale) and method.unavailable(pipe))
    }
