"""What is trained: a projector of any kind and a LoRA over a frozen transformer, and the loss of a batch.

Legend: B rows, L target tokens, K channels of a packed token.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import StrengthProjector
from kontext_slider.train.flow import pack, token_positions
from kontext_slider.train.slider.ablations import NoPooledProjector, Projector, TextSpaceProjector, slider_on
from kontext_slider.train.slider.batches import SliderBatch
from kontext_slider.train.slider.config import SliderConfig, Weighting


def fresh_slider(pipe: KontextSliderPipeline, kind: str, rank: int, seed: int, **projector: Any) -> Projector:
    """Put an untrained slider on a frozen pipeline, in the place of one that is there: last layer zero, LoRA without
    effect. Returns its projector, which is the pipeline's own too unless `kind` is "text-space".

    projector: settings of the projector besides its widths towards the transformer.
    """
    torch.manual_seed(seed)
    for module in (pipe.transformer, pipe.text_encoder, pipe.text_encoder_2):
        module.requires_grad_(False)
    sizes = pipe.transformer.config
    if kind == "text-space":
        projector.pop("place", None)
        token = TextSpaceProjector(sizes.pooled_projection_dim, token_dim=sizes.joint_attention_dim, **projector)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(lora.TARGETS), init_lora_weights="gaussian")
        pipe.unload_slider()
        lora.add_lora(pipe.transformer, config)
        return token.zero_last_layer()
    made = NoPooledProjector if kind == "no-pooled" else StrengthProjector
    offsets = made(sizes.pooled_projection_dim, modulation_dim=pipe.transformer.inner_dim, **projector)
    pipe.add_slider(offsets.zero_last_layer(), rank)
    return offsets


class SliderModel(nn.Module):
    """Transformer and projector as one module, so that what wraps it (autocast, several processes) sees every step.

    What is trained is in float32, whatever the precision of the frozen weights.
    """

    def __init__(self, pipe: KontextSliderPipeline, config: SliderConfig) -> None:
        super().__init__()
        names = ("hidden_dim", "num_layers", "strength_dim", "strength_encoding", "place", "highest_strength")
        settings = {name: getattr(config, name) for name in names}
        self.projector = fresh_slider(pipe, config.kind, config.rank, config.seed, **settings)
        self.transformer = pipe.transformer
        self._weighting, self._guidance = config.weighting, config.guidance
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
        with slider_on(self.transformer, self.projector, batch.strengths, batch.pooled, batch.kept):
            return velocity_loss(self.transformer, batch, self._weighting, self._guidance)


def velocity_loss(transformer: nn.Module, batch: SliderBatch, weighting: Weighting, guidance: float) -> Tensor:
    """Rectified-flow loss (paper, Eq. 1) on the target tokens, mean square error of the velocity eps - y.

    weighting: "none", or "sigma_squared" (as `flow.flow_loss`). guidance: heard by transformers with such an input.
    """
    height, width = batch.target.shape[-2:]
    dtype, device = transformer.dtype, batch.target.device
    sigma = batch.sigmas[:, None, None]
    clean, noise = pack(batch.target), pack(batch.noise)  # (B, L, K)
    tokens = torch.cat([(1 - sigma) * clean + sigma * noise, pack(batch.source)], dim=1)  # (B, 2 L, K)
    hint = torch.full_like(batch.sigmas, guidance) if transformer.config.guidance_embeds else None
    velocity = transformer(
        hidden_states=tokens.to(dtype),
        timestep=batch.sigmas,
        guidance=hint,
        pooled_projections=batch.pooled.to(dtype),
        encoder_hidden_states=batch.text.to(dtype),
        img_ids=token_positions(height, width, device),
        txt_ids=torch.zeros(batch.text.shape[1], 3, device=device),
        return_dict=False,
    )[0][:, : clean.shape[1]]
    error = velocity.float() - (noise - clean)
    return (error * sigma if weighting == "sigma_squared" else error).square().mean()
