"""The paper's ablations (section 4, table 2), on disk and in pictures.

"no-pooled" is an ordinary slider on disk. "text-space", a text token in the place of offsets, is read and applied here.

Legend: B frames (one strength each), P width of the pooled text, E width of the text tokens, T text tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor, nn

from . import lora
from .checkpoint import SliderWeights, read_lora, read_projector, slider_card, write_slider
from .edit import MAX_STRENGTH, check_strengths
from .errors import InvalidInput, MissingSlider
from .hub import PROJECTOR_FOLDER
from .modulation import offsets_attached
from .pipeline import KontextSliderPipeline
from .projector import ModulationOffsets, StrengthProjector

VARIANTS = {  # name of an ablation -> its line in the report
    "full": "the design itself, trained as long as the ablations beside it.",
    "text-space": "the same, with the strength as one more text token in the place of offsets.",
    "no-pooled": "the same, from a projector that does not see the pooled text.",
    "no-filtering": "the same, trained on as many sequences drawn from all that the data pipeline made, those that its "
    "filter rejects included.",
}
TOKEN_CARD = "# Ablation: the strength as a text token\n\nRead by `kontext_slider.variants`.\n"


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
Frames = Callable[[KontextSliderPipeline, Image.Image, str, Sequence[float], int], list]


@contextmanager
def token_appended(transformer: nn.Module, token: Tensor) -> Iterator[None]:
    """The transformer with `token` (B or 1, 1, E) behind its text tokens, at their position, inside the block.

    Raises InvalidInput for a token of another width."""
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


@contextmanager
def slider_on(
    transformer: nn.Module, projector: Projector, strengths: Tensor, pooled: Tensor, kept: Tensor | None = None
) -> Iterator[None]:
    """A slider of any kind on the transformer inside the block: its LoRA active, its offsets or token attached.

    Args:
        strengths: (B,) from 0 on.
        pooled: (B, P) or (1, P).
        kept: (B,) of 0 and 1; rows with 0 have no strength: their offsets (or their token) are zero. None: all 1.
    """
    answer, weight = projector(strengths, pooled), torch.ones(1) if kept is None else kept
    if isinstance(projector, TextSpaceProjector):
        attached = token_appended(transformer, answer * weight.to(answer)[:, None, None])
    else:
        offsets = ModulationOffsets(*(part * weight.to(part)[:, None] for part in answer))
        attached = offsets_attached(transformer, offsets, projector.config.place)
    with lora.slider_lora(transformer, on=True), attached:
        yield


class _AnySlider(KontextSliderPipeline):
    """A pipeline that applies a projector of any kind in the place of its own."""

    projector: Projector

    @contextmanager
    def slider_applied(self, strengths: float | Sequence[float], pooled: Tensor) -> Iterator[None]:
        """As the parent."""
        values = torch.tensor(check_strengths(strengths, MAX_STRENGTH), device=pooled.device)
        with slider_on(self.transformer, self.projector, values, pooled):
            yield

    def require_slider(self) -> Any:
        """As the parent; any kind of projector does."""
        return self.projector


def with_projector(pipe: KontextSliderPipeline, projector: Projector) -> KontextSliderPipeline:
    """The same pipeline, its modules shared and its LoRA as it is, with a projector of any kind."""
    view: Any = copy.copy(pipe)
    view.__class__ = _AnySlider
    view.projector = projector
    return view


def variant_method(weights: SliderWeights) -> Frames:
    """A trained slider of any kind as (pipe, image, instruction, strengths, seed) -> frames (H, W, 3) in [0, 1], on any
    pipeline of its base model, whose own slider is put back afterwards (as one that is not trained further)."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list:
        transformer, generator = pipe.transformer, torch.Generator().manual_seed(seed)
        nn.Module.to(weights.projector, device=transformer.device, dtype=transformer.dtype)
        view, previous = with_projector(pipe, weights.projector), lora.take_lora(transformer)
        lora.put_lora(transformer, weights.lora)
        try:
            frames = view(image, instruction, strength=list(strengths), generator=generator, output_type="np").images
        finally:
            lora.remove_lora(transformer)
            if previous is not None:
                lora.put_lora(transformer, previous)
        return list(frames)

    return method


def save_variant(folder: Path, projector: Projector, transformer: nn.Module) -> None:
    """Write a slider of any kind in our layout. `pipe.load_slider` reads it, but refuses "text-space".

    Raises MissingSlider for a transformer without the slider's LoRA."""
    taken = lora.take_lora(transformer)
    if taken is None:
        raise MissingSlider("This transformer has no slider LoRA. Train or load a slider first.")
    weights = SliderWeights(projector.as_plain() if isinstance(projector, NoPooledProjector) else projector, taken)
    is_token = isinstance(projector, TextSpaceProjector)
    write_slider(folder, weights, TOKEN_CARD if is_token else slider_card(weights, None))


def load_variant(folder: Path) -> SliderWeights:
    """Read what `save_variant` wrote. Raises CheckpointError for a folder that holds something else."""
    projector = read_projector(folder / PROJECTOR_FOLDER, {TextSpaceProjector.__name__: TextSpaceProjector})
    return SliderWeights(projector, read_lora(folder))
