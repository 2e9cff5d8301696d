"""Projectors that are not shipped: the paper's ablations (section 4, table 2) and one of ours, and how each is put on.

Legend: B frames (one strength each), P width of the pooled text, E width of the text tokens, T text tokens, D width of
the transformer, N blocks of all kinds and the last modulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from kontext_slider.errors import InvalidInput
from kontext_slider.modulation import StandIn, offset_embedding
from kontext_slider.projector import ModulationOffsets, StrengthProjector


class TextSpaceProjector(ModelMixin, ConfigMixin):
    """(strength, pooled text) -> one text token, by the MLP of `StrengthProjector`.

    Args:
        pooled_dim: P.
        hidden_dim: width of the hidden layers.
        token_dim: E, even; the transformer's `joint_attention_dim`.
        num_layers, strength_dim, strength_encoding, highest_strength: as in `StrengthProjector`.
    """

    SUBJECT = "the strength as a text token"

    @register_to_config
    def __init__(
        self,
        pooled_dim: int = 768,
        hidden_dim: int = 6144,
        token_dim: int = 4096,
        num_layers: int = 4,
        strength_dim: int = 2,
        strength_encoding: str = "release",
        highest_strength: float = 1.0,
    ) -> None:
        super().__init__()
        if token_dim < 2 or token_dim % 2:
            raise InvalidInput(f"The width of a text token is even and at least 2, not {token_dim}.")
        self.mlp = StrengthProjector(
            pooled_dim,
            hidden_dim,
            token_dim // 2,
            num_layers,
            strength_dim,
            strength_encoding,
            highest_strength=highest_strength,
        )

    def zero_last_layer(self) -> TextSpaceProjector:
        """Make the token zero whatever the strength. Returns self."""
        self.mlp.zero_last_layer()
        return self

    def forward(self, strength: Tensor, pooled: Tensor) -> Tensor:
        """strength (B,), pooled (B, P) or (1, P) -> (B, 1, E)."""
        return torch.cat(self.mlp(strength, pooled), dim=-1)[:, None]


class NoPooledProjector(StrengthProjector):
    """A StrengthProjector that is shown zeros in the place of the pooled text."""

    def forward(self, strength: Tensor, pooled: Tensor) -> ModulationOffsets:
        """As the parent; `pooled` gives only device and shape."""
        return super().forward(strength, torch.zeros_like(pooled))

    def as_plain(self) -> StrengthProjector:
        """The same function as a StrengthProjector: the weights that would read the pooled text are zero."""
        plain = StrengthProjector(**settings_of(self.config))
        plain.load_state_dict(self.state_dict())
        with torch.no_grad():
            plain.projector[0].weight[:, self.config.pooled_dim :] = 0  # (hidden, 2 P)
        return plain


class PerBlockProjector(StrengthProjector):
    """A StrengthProjector whose answer is the offsets of all blocks side by side: its `modulation_dim` is N D."""

    SUBJECT = "offsets for each block"


@contextmanager
def token_appended(transformer: FluxTransformer2DModel, token: Tensor) -> Iterator[None]:
    """The transformer with `token` (B or 1, 1, E) behind its text tokens, at their position, inside the block.

    For calls with keyword arguments, as the pipeline makes them. Raises InvalidInput for a token of another width.
    """
    width = transformer.config.joint_attention_dim
    if token.ndim != 3 or token.shape[2] != width:
        raise InvalidInput(
            f"The strength token has shape {tuple(token.shape)}; this transformer needs (B, 1, {width})."
        )

    def append(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        text, ids = kwargs["encoder_hidden_states"], kwargs["txt_ids"]  # (B, T, E), (T, 3)
        extra = token.to(text).expand(len(text), -1, -1)
        longer = {"encoder_hidden_states": torch.cat([text, extra], 1), "txt_ids": torch.cat([ids, 0 * ids[:1]])}
        return args, {**kwargs, **longer}

    hook = transformer.register_forward_pre_hook(append, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def settings_of(config: Any) -> dict[str, Any]:
    """A projector's configuration without diffusers' own notes."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


class _OffsetModulation(StandIn):
    """For a modulation layer: the vector of time and pooled text, by whatever name it is given, is offset."""

    def forward(self, x: Tensor, *given: Tensor, **named: Tensor) -> Any:
        vectors = {name: offset_embedding(vector, self.offsets) for name, vector in named.items()}
        return self.plain(x, *(offset_embedding(vector, self.offsets) for vector in given), **vectors)


def modulations(transformer: FluxTransformer2DModel) -> list[list[tuple[nn.Module, str]]]:
    """The homes (module, name) of every modulation layer, block by block, the last modulation behind them; N lists."""
    double = [[(block, "norm1"), (block, "norm1_context")] for block in transformer.transformer_blocks]
    single = [[(block, "norm")] for block in transformer.single_transformer_blocks]
    return [*double, *single, [(transformer, "norm_out")]]


@contextmanager
def blocks_offset(transformer: FluxTransformer2DModel, offsets: ModulationOffsets) -> Iterator[None]:
    """The transformer with offsets of their own for all blocks, side by side (B or 1, N D): each hears the vector of
    time and pooled text offset, as all do where the place is "time_text_embed". Raises InvalidInput for another width,
    and under gradient checkpointing, which would recompute the blocks without them."""
    homes = modulations(transformer)
    if offsets.scale.shape[1] != len(homes) * transformer.inner_dim:
        raise InvalidInput(
            f"The offsets have shape {tuple(offsets.scale.shape)}; this transformer needs (frames, {len(homes)} x "
            f"{transformer.inner_dim})."
        )
    if transformer.is_gradient_checkpointing:
        raise InvalidInput("Offsets per block do not pass gradient checkpointing: train them without it.")
    plain = [(home, name, getattr(home, name)) for block in homes for home, name in block]
    try:
        parts = (part.chunk(len(homes), dim=1) for part in offsets)
        for block, scale, shift in zip(homes, *parts, strict=True):
            for home, name in block:
                home._modules[name] = _OffsetModulation(getattr(home, name), ModulationOffsets(scale, shift))
        yield
    finally:
        for home, name, module in plain:
            home._modules[name] = module
