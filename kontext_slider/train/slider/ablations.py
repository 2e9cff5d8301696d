"""The paper's ablations as models (section 4, table 2), outside the shipped path: what they are, on disk, in pictures.

All but "text-space" are ordinary sliders on disk.

Legend: B frames (one strength each), P width of the pooled text, E width of the text tokens, T text tokens.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kontext_slider import lora
from kontext_slider.checkpoint import SliderWeights, read_lora, slider_card, write_slider
from kontext_slider.defaults import MAX_STRENGTH
from kontext_slider.errors import CheckpointError, InvalidInput, MissingSlider
from kontext_slider.hub import PROJECTOR_FILE, PROJECTOR_FOLDER
from kontext_slider.modulation import offsets_attached
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.projector import ModulationOffsets, StrengthProjector, check_strengths

if TYPE_CHECKING:
    from kontext_slider.evaluate.rivals import Method

ABLATIONS = {  # name -> what a reader of the report is told
    "same-steps": "the shipped design on the drawn truth, trained for as long as the other ablations.",
    "text-stream": "the same, with the offsets where the paper adds them: in the text stream of every double block.",
    "text-space": "the same, with the strength as one more text token in the place of offsets.",
    "no-pooled": "the same, from a projector that does not see the pooled text.",
    "sinusoidal": "the same, with the strength as 128 sines and cosines, as the paper has it, in the place of the "
    "released code's two.",
    "filtered": "the shipped design on sequences of the data pipeline in the place of the drawn truth, those that its "
    "filter keeps.",
    "unfiltered": 'the paper\'s "without filtering": the same on as many sequences drawn from all, those that the '
    "filter rejects included.",
}
TEXT_SPACE_CARD = "# Ablation: the strength as a text token\n\nRead by `kontext_slider.train.slider.ablations`.\n"


class TextSpaceProjector(ModelMixin, ConfigMixin):
    """(strength, pooled text) -> one text token, by the MLP of `StrengthProjector`.

    Args:
        pooled_dim: P.
        hidden_dim: width of the hidden layers.
        token_dim: E, even; the transformer's `joint_attention_dim`.
        num_layers, strength_dim, strength_encoding, highest_strength: as in `StrengthProjector`.
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
        plain = StrengthProjector(**_settings(self.config))
        plain.load_state_dict(self.state_dict())
        with torch.no_grad():
            plain.projector[0].weight[:, self.config.pooled_dim :] = 0  # (hidden, 2 P)
        return plain


Projector = StrengthProjector | TextSpaceProjector


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


@contextmanager
def slider_on(
    transformer: FluxTransformer2DModel,
    projector: Projector,
    strengths: Tensor,
    pooled: Tensor,
    kept: Tensor | None = None,
) -> Iterator[None]:
    """A slider of any kind on the transformer inside the block: its LoRA active, its offsets or token attached.

    Args:
        strengths: (B,) in [0, 1].
        pooled: (B, P) or (1, P).
        kept: (B,) of 0 and 1; rows with 0 have no strength: their offsets (or their token) are zero. None: all 1.
    """
    answer = projector(strengths, pooled)
    if isinstance(projector, TextSpaceProjector):
        token = answer if kept is None else answer * kept.to(answer)[:, None, None]
        attached = token_appended(transformer, token)
    else:
        offsets = answer if kept is None else ModulationOffsets(*(part * kept.to(part)[:, None] for part in answer))
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

    def _require_slider(self) -> Any:
        return self.projector


def with_projector(pipe: KontextSliderPipeline, projector: Projector) -> KontextSliderPipeline:
    """The same pipeline, its modules shared and its LoRA as it is, with a projector of any kind."""
    view: Any = copy.copy(pipe)
    view.__class__ = _AnySlider
    view.projector = projector
    return view


def render(
    pipe: KontextSliderPipeline,
    projector: Projector,
    image: Image.Image,
    instruction: str,
    strengths: Sequence[float],
    seed: int,
) -> list:
    """Frames (H, W, 3) in [0, 1] by a projector of any kind and the LoRA that is on the pipeline."""
    generator = torch.Generator().manual_seed(seed)
    view = with_projector(pipe, projector)
    return list(view(image, instruction, strength=list(strengths), generator=generator, output_type="np").images)


def ablation_method(weights: SliderWeights) -> Method:
    """The trained ablation as a method of `evaluate.rivals`: on any pipeline of its base model, whose own slider is
    put back afterwards (as one that is not trained further)."""

    def method(
        pipe: KontextSliderPipeline, image: Image.Image, instruction: str, strengths: Sequence[float], seed: int
    ) -> list:
        nn.Module.to(weights.projector, device=pipe.transformer.device, dtype=pipe.transformer.dtype)
        with _lora_in_place(pipe.transformer, weights.lora):
            return render(pipe, weights.projector, image, instruction, strengths, seed)

    return method


@contextmanager
def _lora_in_place(transformer: FluxTransformer2DModel, weights: lora.LoraWeights) -> Iterator[None]:
    previous = lora.take_lora(transformer)
    lora.put_lora(transformer, weights)
    try:
        yield
    finally:
        lora.remove_lora(transformer)
        if previous is not None:
            lora.put_lora(transformer, previous)


def take_weights(projector: Projector, transformer: FluxTransformer2DModel) -> SliderWeights:
    """The slider as it would be saved. Raises MissingSlider for a transformer without the slider's LoRA."""
    weights = lora.take_lora(transformer)
    if weights is None:
        raise MissingSlider("This transformer has no slider LoRA. Train or load a slider first.")
    return SliderWeights(projector.as_plain() if isinstance(projector, NoPooledProjector) else projector, weights)


def save_slider_of(folder: Path, projector: Projector, transformer: FluxTransformer2DModel) -> None:
    """Write a slider of any kind in our layout. `pipe.load_slider` reads it, but for "text-space", which it refuses."""
    weights = take_weights(projector, transformer)
    is_token = isinstance(weights.projector, TextSpaceProjector)
    write_slider(folder, weights, TEXT_SPACE_CARD if is_token else slider_card(weights, None))


def load_slider_of(folder: Path) -> SliderWeights:
    """Read what `save_slider_of` wrote. Raises CheckpointError for a folder that holds something else."""
    home = folder / PROJECTOR_FOLDER
    try:
        config = json.loads((home / "config.json").read_text(encoding="utf-8"))
        kind = TextSpaceProjector if config.get("_class_name") == "TextSpaceProjector" else StrengthProjector
        projector = kind(**_settings(config))
        projector.load_state_dict(load_file(home / PROJECTOR_FILE))
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"There is no readable slider in {str(folder)!r}: {error}") from error
    return SliderWeights(projector.eval(), read_lora(folder))


def _settings(config: Any) -> dict[str, Any]:
    """A configuration without diffusers' own notes."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
