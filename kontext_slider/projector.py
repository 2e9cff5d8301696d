"""From a strength and the pooled instruction to modulation offsets.

Legend: B frames (one strength each), P width of the pooled text, E width of the encoded strength,
D width of the transformer (`inner_dim`), K places of a polynomial. In `TextSpaceProjector` E is a text token's width.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, get_args

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .base import ModulationOffsets, Place
from .edit import MAX_STRENGTH
from .errors import InvalidInput

ENCODINGS = ("release", "sinusoidal")
MAX_DEGREE = 32  # of a polynomial in the strength: beyond it the projector is asked more often than it answers
TANGENT = 0.1  # of strength, over which the direction of the offsets is taken at the highest trained strength


def encode_periodic(strength: Tensor) -> Tensor:
    """The released encoding, (sin(pi s), cos(pi s)). strength (B,) -> (B, 2), float32."""
    angle = math.pi * strength.float()
    return torch.stack([angle.sin(), angle.cos()], dim=-1)


def encode_sinusoidal(strength: Tensor, dim: int) -> Tensor:
    """The paper's encoding (appendix A.3): sines, then cosines, of 1000 s at dim / 2 frequencies from 1 down to 1e-4.

    The paper gives the width (128) and not the frequencies; these are the usual ones of diffusion timesteps.
    strength (B,) -> (B, dim), float32.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, device=strength.device) / half)  # (half,)
    angle = 1000.0 * strength.float()[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class StrengthProjector(ModelMixin, ConfigMixin):
    """(strength, pooled text) -> ModulationOffsets (paper section 3 and appendix A.3; sizes of the public release).

    The state dict has the layout of the released `slider_projector.pth`: `pe_extender` widens the encoded strength
    to P, `projector` is an MLP with ReLU between its layers and none after the last. The first half of its output is
    the scale, the second half the shift.

    Args:
        pooled_dim: P, the width of the pooled text.
        hidden_dim: width of the MLP's hidden layers.
        modulation_dim: D, the transformer's inner width.
        num_layers: linear layers of the MLP, at least 2.
        strength_dim: E; 2 for "release", even for "sinusoidal" (128 in the paper).
        strength_encoding: "release" (`encode_periodic`) or "sinusoidal" (`encode_sinusoidal`).
        place: where the offsets go, "text_stream" as in the paper, or "time_text_embed" (see `modulation.py`).
        highest_strength: the highest strength of training. Beyond it the offsets go on along their tangent: the
            encoding alone would turn back, since it is periodic.
        degree: of the polynomial in the strength that the offsets are on [0, 1], through the MLP's answers at
            degree + 1 places; beyond 1 they are its answers. None for its answers everywhere, as in the paper and
            the release: its ReLUs make the offsets piecewise linear, which is rougher and harder to interpolate.
    """

    @register_to_config
    def __init__(
        self,
        pooled_dim: int = 768,
        hidden_dim: int = 6144,
        modulation_dim: int = 3072,
        num_layers: int = 4,
        strength_dim: int = 2,
        strength_encoding: str = "release",
        place: Place = "text_stream",
        highest_strength: float = 1.0,
        degree: int | None = None,
    ) -> None:
        super().__init__()
        _check_settings(num_layers, strength_dim, strength_encoding, degree, highest_strength)
        if place not in get_args(Place):
            raise InvalidInput(f"The place of the offsets is one of {', '.join(get_args(Place))}, not {place!r}.")
        self.pe_extender = nn.Linear(strength_dim, pooled_dim)
        widths = [2 * pooled_dim, *[hidden_dim] * (num_layers - 1), 2 * modulation_dim]
        layers = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())]
        self.projector = nn.Sequential(*layers[:-1])

    def zero_last_layer(self) -> StrengthProjector:
        """Make every offset zero, so that training starts at the unconditioned model. Returns self."""
        last = self.projector[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return self

    def encode_strength(self, strength: Tensor) -> Tensor:
        """(B,) -> (B, E), always in float32: in bfloat16 neighbouring strengths would become one."""
        if self.config.strength_encoding == "release":
            return encode_periodic(strength)
        return encode_sinusoidal(strength, self.config.strength_dim)

    def forward(self, strength: Tensor, pooled: Tensor) -> ModulationOffsets:
        """Offsets of a batch.

        Args:
            strength: (B,), from 0 on.
            pooled: (B, P), or (1, P) for one instruction at B strengths.
        """
        highest = self.config.highest_strength
        offsets = self._project(strength.clamp(max=highest), pooled)
        beyond = (strength - highest).clamp(min=0)[:, None].to(offsets.scale)  # (B, 1)
        if not beyond.any():
            return offsets
        before = self._project((strength - TANGENT).clamp(max=highest - TANGENT), pooled)
        tangent = [(now - then) / TANGENT for now, then in zip(offsets, before, strict=True)]
        return ModulationOffsets(*(now + beyond * slope for now, slope in zip(offsets, tangent, strict=True)))

    def _project(self, strength: Tensor, pooled: Tensor) -> ModulationOffsets:
        strength = strength.to(pooled.device)
        if self.config.degree is None:
            return self._mlp_offsets(strength, pooled)
        places = chebyshev_places(self.config.degree + 1).to(pooled.device)  # (K,)
        at_places = self._mlp_offsets(places.repeat(len(pooled)), pooled.repeat_interleave(len(places), dim=0))
        weights = lagrange_weights(places, strength.clamp(max=1))[:, :, None]  # (B, K, 1)
        per_text = (part.unflatten(0, (len(pooled), len(places))) for part in at_places)  # 2 x (B or 1, K, D)
        offsets = ModulationOffsets(*((weights * part.float()).sum(dim=1).to(part) for part in per_text))
        if not (beyond := strength[:, None] > 1).any():
            return offsets
        there = self._mlp_offsets(strength, pooled)
        return ModulationOffsets(*(torch.where(beyond, a, b) for a, b in zip(there, offsets, strict=True)))

    def _mlp_offsets(self, strength: Tensor, pooled: Tensor) -> ModulationOffsets:
        """The MLP's own answers, (B, D) each."""
        encoded = self.encode_strength(strength).to(self.pe_extender.weight.dtype)  # (B, E)
        encoded = self.pe_extender(encoded)  # (B, P)
        pooled = pooled.to(encoded).expand(len(encoded), -1)
        scale, shift = self.projector(torch.cat([encoded, pooled], dim=-1)).chunk(2, dim=-1)  # 2 x (B, D)
        return ModulationOffsets(scale, shift)


class TextSpaceProjector(ModelMixin, ConfigMixin):
    """(strength, pooled text) -> one text token, by the MLP of `StrengthProjector`.

    Args:
        token_dim: E, even; the transformer's `joint_attention_dim`.
        others: as in `StrengthProjector`.
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
        sizes = (pooled_dim, hidden_dim, token_dim // 2, num_layers, strength_dim, strength_encoding)
        self.mlp = StrengthProjector(*sizes, highest_strength=highest_strength, degree=degree)

    def zero_last_layer(self) -> TextSpaceProjector:
        """Make the token zero whatever the strength. Returns self."""
        self.mlp.zero_last_layer()
        return self

    def forward(self, strength: Tensor, pooled: Tensor) -> Tensor:
        """strength (B,), pooled (B, P) or (1, P) -> (B, 1, E)."""
        return torch.cat(self.mlp(strength, pooled), dim=-1)[:, None]


class NoPooledProjector(StrengthProjector):
    """A StrengthProjector that gets zeros in the place of the pooled text."""

    def forward(self, strength: Tensor, pooled: Tensor) -> ModulationOffsets:
        """As the parent; `pooled` gives only device and shape."""
        return super().forward(strength, torch.zeros_like(pooled))

    def as_plain(self) -> StrengthProjector:
        """The same function as a StrengthProjector: the weights that would read the pooled text are zero."""
        plain = StrengthProjector(**{name: value for name, value in self.config.items() if name[0] != "_"})
        plain.load_state_dict(self.state_dict())
        with torch.no_grad():
            plain.projector[0].weight[:, self.config.pooled_dim :] = 0  # (hidden, 2 P)
        return plain


Projector = StrengthProjector | TextSpaceProjector


def chebyshev_places(count: int) -> Tensor:
    """Where a polynomial through `count` (2 or more) values on [0, 1] swings least between them: (count,), ascending,
    both ends among them, float32."""
    return (1 - torch.cos(math.pi * torch.arange(count) / (count - 1))) / 2


def lagrange_weights(places: Tensor, strength: Tensor) -> Tensor:
    """What values at `places` (K,) count in their polynomial's value at `strength` (B,): (B, K), float32."""
    from_places = strength.float()[:, None, None] - places  # (B, 1, K)
    between = places[:, None] - places  # (K, K)
    same = torch.eye(len(places), dtype=torch.bool, device=places.device)
    factors = torch.where(same, 1.0, from_places / torch.where(same, 1.0, between))  # (B, K, K)
    return factors.prod(dim=2)


def _check_settings(num_layers: int, strength_dim: int, strength_encoding: str, degree: Any, highest: Any) -> None:
    if strength_encoding not in ENCODINGS:
        raise InvalidInput(f"The strength encoding is one of {', '.join(ENCODINGS)}, not {strength_encoding!r}.")
    if strength_encoding == "release" and strength_dim != 2:
        raise InvalidInput(f"The released strength encoding has 2 values, not {strength_dim}: set strength_dim=2.")
    if strength_dim < 2 or strength_dim % 2:
        raise InvalidInput(f"strength_dim is an even number of at least 2, not {strength_dim}.")
    if num_layers < 2:
        raise InvalidInput(f"The projector needs at least 2 layers, not {num_layers}.")
    if degree is not None and (
        isinstance(degree, bool) or not isinstance(degree, int) or not 1 <= degree <= MAX_DEGREE
    ):
        raise InvalidInput(
            f"The degree of the offsets' polynomial is a whole number from 1 to {MAX_DEGREE}, not {degree!r}."
        )
    if isinstance(highest, bool) or not isinstance(highest, float | int) or not 0 < highest <= MAX_STRENGTH:
        raise InvalidInput(f"The highest strength of training is above 0 and at most {MAX_STRENGTH}, not {highest!r}.")
