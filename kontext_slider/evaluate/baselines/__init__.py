"""Other ways to get a slider out of the same base model, behind one signature, to be measured beside ours.

A method is `(pipe, image, instruction, strengths, seed) -> frames`. All but `lora-scale` run the base model without the
slider. Sources: the method's paper, beside each; all on the same noise and guidance.
"""

from __future__ import annotations

from kontext_slider.evaluate.baselines.attention import AttentionReweighting, Grag
from kontext_slider.evaluate.baselines.fades import LatentCrossFade, pixel_cross_fade
from kontext_slider.evaluate.baselines.guidance import AdaOr, CfgScale, FlowSlider, GuidanceScale, VeloEdit
from kontext_slider.evaluate.baselines.lora import LoraScale
from kontext_slider.evaluate.baselines.method import ByScale, Method, by_morpher, ours
from kontext_slider.evaluate.baselines.modulation import ModulationScale
from kontext_slider.evaluate.baselines.text import EmbeddingSteering, PadTokens
from kontext_slider.pipeline import KontextSliderPipeline

__all__ = ["BASELINES", "Method", "available", "by_morpher", "ours"]

BASELINES: dict[str, Method] = {
    "pixel-cross-fade": pixel_cross_fade,
    "latent-cross-fade": LatentCrossFade(),
    "lora-scale": LoraScale(),
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
}


def available(pipe: KontextSliderPipeline) -> list[str]:
    """The names of the baselines that can run on a pipeline."""
    return [name for name, made in BASELINES.items() if not (isinstance(made, ByScale) and made.unavailable(pipe))]
