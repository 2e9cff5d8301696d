"""Projectors that are not shipped: the paper's ablations (section 4, table 2), and how a text token is put on.

Legend: B frames (one strength each), P width of the pooled text, E width of the text tokens, T text tokens, D width of
the transformer.
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
from kontext_slider.projector import ModulationOffsets, StrengthProjector


class TextSpaceProjector(ModelMixin, ConfigMixin):
    """(strength, pooled text) -> one text token, by the MLP of `StrengthProjector`.

    Args:
        pooled_dim: P.
        hidden_dim: width of the hidden layers.
        token_dim: E, even; the transformer's `joint_attention_dim`.
        num_layers, strength_dim, strength_encoding, highest_strength, degree: as in `StrengthProjector`.
    """

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
        degree: int | None = None,
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
            degree=degree,
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
