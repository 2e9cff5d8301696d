"""What is trained: a projector of any kind and a LoRA over a frozen transformer, and the loss of a batch."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.modulation import offsets_width
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import StrengthProjector
from kontext_slider.train.flow import beside_untouched, flow_error, shown_error, weighted_square
from kontext_slider.train.slider.batches import SliderBatch
from kontext_slider.train.slider.config import SliderConfig
from kontext_slider.variants import NoPooledProjector, Projector, TextSpaceProjector, slider_on


def fresh_slider(pipe: KontextSliderPipeline, kind: str, rank: int, seed: int, **projector: Any) -> Projector:
    """Put an untrained slider on a frozen pipeline, in the place of one that is there: last layer zero, LoRA without
    effect. Returns its projector, which is the pipeline's own too unless `kind` is "text-space".

    projector: settings of the projector besides its widths towards the transformer.
    """
    torch.manual_seed(seed)
    for module in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2):
        module.requires_grad_(False)
    if kind == "text-space":
        projector.pop("place", None)
        sizes = pipe.transformer.config
        token = TextSpaceProjector(sizes.pooled_projection_dim, token_dim=sizes.joint_attention_dim, **projector)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(lora.TARGETS), init_lora_weights="gaussian")
        pipe.unload_slider()
        lora.add_lora(pipe.transformer, config)
        return token.zero_last_layer()
    plain = NoPooledProjector if kind == "no-pooled" else StrengthProjector
    width = offsets_width(pipe.transformer, projector.get("place", "text_stream"))
    offsets = plain(pipe.transformer.config.pooled_projection_dim, modulation_dim=width, **projector)
    pipe.add_slider(offsets.zero_last_layer(), rank)
    return offsets


class SliderModel(nn.Module):
    """Transformer and projector as one module, so that what wraps it (autocast, several processes) sees every step.

    What is trained is in float32, whatever the precision of the frozen weights.
    """

    def __init__(self, pipe: KontextSliderPipeline, config: SliderConfig) -> None:
        super().__init__()
        names = ("hidden_dim", "num_layers", "strength_dim", "strength_encoding", "place", "highest_strength", "degree")
        settings = {name: getattr(config, name) for name in names}
        self.projector = fresh_slider(pipe, config.kind, config.rank, config.seed, **settings)
        self.transformer = pipe.transformer
        self._weighting, self._guidance, self._anchored = config.weighting, config.guidance, config.anchored
        nn.Module.to(self.projector, pipe.transformer.device)
        for parameter in self.trained().values():
            parameter.data = parameter.data.float()
        if config.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.transformer.train()

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, batch: SliderBatch) -> Tensor:
        """The loss of a batch, a scalar."""
        rows = beside_untouched(batch) if self._anchored else batch
        with slider_on(self.transformer, self.projector, rows.strengths, rows.pooled, rows.kept):
            error = flow_error(
                self.transformer,
                rows.source,
                rows.target,
                rows.text,
                rows.pooled,
                rows.sigmas,
                rows.noise,
                self._weighting,
                self._guidance,
            )
        if self._anchored:
            frame, untouched = error.chunk(2)
            error = shown_error(frame, untouched * batch.kept[:, None, None], batch.strengths)
        return weighted_square(error)
