"""The one door to a base model: everything that depends on its family is asked here.

A family is one file beside this one and one entry in `_FAMILIES`. `base_of(pipe)` gives the family's object for a
pipeline, `family_of(transformer)` the class, whose static methods need a transformer alone (as training does).

Legend: B rows of a batch, T text tokens, W text width, P pooled width, L target tokens, S source tokens, C channels of
a packed token, H and W sides in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from diffusers import SchedulerMixin
from PIL import Image
from torch import Tensor, device, dtype, nn

Place = Literal["text_stream", "time_text_embed"]  # where offsets go, see `modulation.py`
Velocity = Callable[[Tensor, int], Tensor]  # (latents (B, L, C), number of the step from 0) -> (B, L, C)


@dataclass(frozen=True)
class TextEncoding:
    """What the text encoders make of an instruction."""

    embeds: Tensor  # (1 or B, T, W)
    pooled: Tensor  # (1 or B, P)
    ids: Tensor  # (T, 3)

    @property
    def num_bytes(self) -> int:
        return self.embeds.nbytes + self.pooled.nbytes + self.ids.nbytes


@dataclass(frozen=True)
class Tokens:
    """Packed latents and their position ids: a source, or the noise that the target starts from."""

    latents: Tensor  # (1 or B, L, C)
    ids: Tensor  # (L, 3); the first entry is 0 for target tokens, 1 for source tokens

    @property
    def num_bytes(self) -> int:
        return self.latents.nbytes + self.ids.nbytes


@dataclass(frozen=True)
class Conditioning:
    """All that a denoise needs and that does not depend on the strength."""

    text: TextEncoding
    source: Tokens
    noise: Tokens
    guidance: Tensor | None  # (1 or B,), only for transformers that embed it


class ModulationOffsets(NamedTuple):
    """What is added to the scale and shift of a modulation (`modulation.py` says where), one row per frame."""

    scale: Tensor  # (B, D)
    shift: Tensor  # as the scale


class Site(NamedTuple):
    """Modules of one owner."""

    owner: nn.Module
    names: tuple[str, ...]


class BaseModel(Protocol):
    """One pipeline's base model."""

    lora_targets: ClassVar[tuple[str, ...]]  # the modules that a slider's LoRA adapts
    preferred_sizes: ClassVar[Sequence[tuple[int, int]]]  # (width, height) of pictures that the model was trained on
    modulation_names: ClassVar[tuple[str, ...]]  # what the transformer calls its modulation layers
    mlp_shift_scale: ClassVar[tuple[int, int]]  # places of the MLP's shift and scale in a text modulation's answer

    def __init__(self, pipe: Any) -> None: ...

    def encode_text(self, instruction: str, max_sequence_length: int) -> TextEncoding: ...

    def text_pieces(self, instruction: str, max_sequence_length: int) -> list[str]:
        """What the rows of `encode_text(...).embeds` stand for, padding left out. A word's first piece starts with "▁"
        (SentencePiece's mark)."""

    def encode_source(self, image: Image.Image, dtype: dtype) -> Tokens:
        """`image` has sides that are multiples of the packing; `dtype` is that of the text's embeddings."""

    def draw_noise(self, size: tuple[int, int], seed: int, dtype: dtype, scale: float = 1.0) -> Tokens:
        """Noise of a picture of `size` (width, height), times `scale`. A seed means the same on every device."""

    def guidance(self, scale: float) -> Tensor | None:
        """(1,); None for a transformer that takes none."""

    def schedule(self, steps: int, num_tokens: int) -> SchedulerMixin:
        """A scheduler of its own for one render, with `timesteps` (steps,) and `sigmas` (steps + 1,)."""

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Packed latents (B, L, C) to pixels (B, 3, H, W) in [0, 1]."""

    def round_trip(self, pixels: Tensor) -> Tensor:
        """What the codec leaves of pixels (B, 3, H, W) in [0, 1], not clipped."""

    def to_picture(self, pixels: Tensor) -> Image.Image:
        """Pixels (1, 3, H, W) in [0, 1] to a picture, as the pipeline rounds them."""

    def to_pixels(self, picture: Image.Image) -> Tensor:
        """A picture to pixels (1, 3, H, W) in [0, 1], as the pipeline sees it."""

    @staticmethod
    def velocity(transformer: nn.Module, latents: Tensor, time: Tensor, edit: Conditioning) -> Tensor:
        """The velocity at target latents (B, L, C), (B, L, C). `time`: the noise level in (0, 1], () or (B,)."""

    @staticmethod
    def pack(latents: Tensor) -> Tensor:
        """(B, channels, h, w) -> tokens (B, L, C)."""

    @staticmethod
    def token_ids(height: int, width: int, is_source: bool, device: device | None = None) -> Tensor:
        """Position ids (L, 3) of latents of h x w."""

    @staticmethod
    def modulation_sites(transformer: nn.Module, place: Place | None = None) -> list[Site]:
        """Where offsets go; None: all modulation layers, in the order in which they run."""

    @staticmethod
    def blocks(transformer: nn.Module) -> Sequence[nn.Module]:
        """In the order in which they run; each answers (text tokens, image tokens)."""


class FastEdit(Protocol):
    """One edit, all that its strengths share computed."""

    def velocity_at(self, offsets: ModulationOffsets) -> Velocity:
        """The velocity of B frames with their offsets. The latents of the first step may have a batch of one."""


class FastModel(Protocol):
    """A transformer prepared for many strengths of an edit."""

    def open(self, edit: Conditioning, timesteps: Tensor, place: Place) -> FastEdit:
        """An edit whose steps are at `timesteps` (steps,), counted to 1000 as schedulers do."""


_FAMILIES = {"FluxTransformer2DModel": "flux1_kontext.Flux1Kontext"}
_FAST_MODELS = {"FluxTransformer2DModel": "flux1_cached.CachedModel"}


def base_of(pipe: Any) -> BaseModel:
    """The base model of a pipeline."""
    return family_of(pipe.transformer)(pipe)


def family_of(transformer: nn.Module) -> type[BaseModel]:
    """The family of a transformer, compiled or not. Raises TypeError for one that no file here knows."""
    plain = getattr(transformer, "_orig_mod", transformer)  # torch.compile(transformer)
    for kind in type(plain).__mro__:
        if kind.__name__ in _FAMILIES:
            return _load(_FAMILIES[kind.__name__])
    raise TypeError(f"{type(plain).__name__} is no transformer that kontext_slider.base knows.")


def fast_model(transformer: nn.Module, fused: bool, dtype: dtype | None, compiled: bool) -> FastModel | None:
    """A model that computes the transformer's velocity, its slider's LoRA included, faster; None where there is none.

    Args:
        fused: merge the LoRA and join query, key and value, in a copy of the blocks' weights. Else nothing is copied.
        dtype: that the copied matrices multiply in; None for the transformer's own.
        compiled: let torch compile the blocks when they first meet a shape.
    """
    name = _FAST_MODELS.get(type(transformer).__name__)
    return None if name is None else _load(name).of(transformer, fused, dtype, compiled)


def modulation_names() -> list[str]:
    """What the transformers of all families call their modulation layers."""
    return sorted({name for kind in _FAMILIES.values() for name in _load(kind).modulation_names})


@cache
def _load(name: str) -> Any:
    module, _, kind = name.partition(".")
    return getattr(import_module(f"{__name__}.{module}"), kind)
