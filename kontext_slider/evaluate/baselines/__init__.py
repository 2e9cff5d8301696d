"""Other ways to get a slider out of the same base model, behind one signature, to be measured beside ours.

A method is `(pipe, image, instruction, strengths, seed) -> frames`. All but `lora-scale` run the base model without the
slider. Sources: the method's paper, beside each; all on the same noise and guidance.
"""

from __future__ import annotations

from kontext_slider.evaluate.baselines.attention import AttentionReweighting
from kontext_slider.evaluate.baselines.fades import LatentCrossFade, pixel_cross_fade
from kontext_slider.evaluate.baselines.guidance import AdaOr, CfgScale, FlowSlider, VeloEdit
from kontext_slider.evaluate.baselines.lora import LoraScale
from kontext_slider.evaluate.baselines.method import Method, Morpher, by_morpher, ours

__all__ = ["BASELINES", "Method", "Morpher", "by_morpher", "ours"]

BASELINES: dict[str, Method] = {
    "pixel-cross-fade": pixel_cross_fade,
    "latent-cross-fade": LatentCrossFade(),
    "lora-scale": LoraScale(),
    "cfg-scale": CfgScale(),
    "attention-reweighting": AttentionReweighting(),
    "velo-edit": VeloEdit(),
    "flow-slider": FlowSlider(),
    "ada-or": AdaOr(),
}
