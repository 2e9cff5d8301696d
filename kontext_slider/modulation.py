"""Attach modulation offsets to an unmodified FluxTransformer2DModel, and take them off again.

Three places. "text_stream", the paper's: in a double block, `norm1_context` answers `(x, gate_msa, shift_mlp,
scale_mlp, gate_mlp)` for the text stream; while offsets are attached, a wrapper stands in its place, asks it and adds
to `shift_mlp` and `scale_mlp`. "time_text_embed": the vector of time and pooled text, which drives every modulation of
the transformer, is scaled and shifted once. "every_block": each block hears that vector scaled and shifted by a pair of
its own. Nothing else of the transformer changes, its state-dict keys included.

Why a stand-in module and not a forward hook: dynamo does not guard on hooks (`skip_nnmodule_hook_guards`), so a
compiled block keeps the hooks it was traced with, present or not. It does guard on submodules, and takes the wrapper's
tensors as inputs, so that new values of the same shape need no new compilation.

Legend: B frames in the batch, D width of the transformer, N blocks of both kinds and the last modulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .checkpointing import wrap_checkpointing
from .errors import InvalidInput
from .projector import ModulationOffsets, Place


class StandIn(nn.Module):
    """In the place of a plain module: same parameters under the same names, its answer offset."""

    def __init__(self, plain: nn.Module, offsets: ModulationOffsets) -> None:
        super().__init__()
        self.__dict__.update(plain=plain, offsets=offsets)  # not a submodule: names in the state dict stay as they are
        self._parameters, self._buffers, self._modules = plain._parameters, plain._buffers, plain._modules
        self.training = plain.training


class _OffsetNorm(StandIn):
    """For a block's `norm1_context`."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        x, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.plain(*args, **kwargs)
        shift, scale = _added(shift_mlp, self.offsets.shift), _added(scale_mlp, self.offsets.scale)
        return x, gate_msa, shift, scale, gate_mlp


class _OffsetEmbedding(StandIn):
    """For the transformer's `time_text_embed`."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return offset_embedding(self.plain(*args, **kwargs), self.offsets)


class _OffsetModulation(StandIn):
    """For a modulation layer: the vector of time and pooled text, by whatever name it is given, is offset."""

    def forward(self, x: Tensor, *given: Tensor, **named: Tensor) -> Any:
        vectors = {name: offset_embedding(vector, self.offsets) for name, vector in named.items()}
        return self.plain(x, *(offset_embedding(vector, self.offsets) for vector in given), **vectors)


class _Home(NamedTuple):
    """Modules of one owner that offsets go to, and what stands in for them."""

    owner: nn.Module
    names: tuple[str, ...]
    stand_in: type[StandIn]
    offsets: ModulationOffsets


class OffsetsHandle:
    """Offsets that are attached; `detach` takes them off (twice is once)."""

    def __init__(self, transformer: nn.Module, offsets: ModulationOffsets, place: Place) -> None:
        @contextmanager
        def recomputed(block: nn.Module, *tensors: Tensor) -> Iterator[None]:
            """A block of the backward pass: these offsets, whatever is attached by then."""
            homes = _homes(transformer, ModulationOffsets(*tensors), place)
            replaced = _attach([home for home in homes if home.owner is block])
            try:
                yield
            finally:
                _put_back(replaced)

        self._replaced = _attach(_homes(transformer, offsets, place))
        self._unwrap = wrap_checkpointing(transformer, recomputed, *offsets)

    def detach(self) -> None:
        """Put the transformer back as it was."""
        _put_back(self._replaced)
        self._replaced = []
        self._unwrap()


def attach_offsets(transformer: nn.Module, offsets: ModulationOffsets, place: Place = "text_stream") -> OffsetsHandle:
    """Add `offsets` until the returned handle is detached.

    Gradients flow to the offsets, also through gradient checkpointing: a block that is recomputed in the backward pass
    sees the offsets of its forward pass, even when they are detached by then.

    Args:
        transformer: a FluxTransformer2DModel, compiled or not, with or without LoRA.
        offsets: scale and shift, (B, D) each, or (B, N D) for "every_block", in the order of `modulations`; B is the
            batch of the coming calls, or 1 for all frames alike.
        place: "text_stream" (every double block, as in the paper), "time_text_embed" or "every_block".

    Raises InvalidInput for offsets of another width and when offsets are attached already.
    """
    transformer = getattr(transformer, "_orig_mod", transformer)  # torch.compile(transformer)
    _check_fit(transformer, offsets, place)
    owners = [(transformer, ("time_text_embed",)), *modulations(transformer)]
    if any(isinstance(getattr(owner, name), StandIn) for owner, names in owners for name in names):
        raise InvalidInput("This transformer has offsets attached. Detach them before attaching others.")
    return OffsetsHandle(transformer, offsets, place)


@contextmanager
def offsets_attached(
    transformer: nn.Module, offsets: ModulationOffsets, place: Place = "text_stream"
) -> Iterator[None]:
    """`attach_offsets` for the length of a `with` block; detached whatever happens inside."""
    handle = attach_offsets(transformer, offsets, place)
    try:
        yield
    finally:
        handle.detach()


def modulations(transformer: nn.Module) -> list[tuple[nn.Module, tuple[str, ...]]]:
    """The N owners of modulation layers and what they call them: double blocks, single blocks, the last modulation."""
    double = [(block, ("norm1", "norm1_context")) for block in transformer.transformer_blocks]
    single = [(block, ("norm",)) for block in transformer.single_transformer_blocks]
    return [*double, *single, (transformer, ("norm_out",))]


def offsets_width(transformer: nn.Module, place: Place) -> int:
    """How many numbers the scale has, and the shift: D, or N D for "every_block"."""
    return transformer.inner_dim * (len(modulations(transformer)) if place == "every_block" else 1)


def _homes(transformer: nn.Module, offsets: ModulationOffsets, place: Place) -> list[_Home]:
    if place == "time_text_embed":
        return [_Home(transformer, ("time_text_embed",), _OffsetEmbedding, offsets)]
    if place == "text_stream":
        return [_Home(block, ("norm1_context",), _OffsetNorm, offsets) for block in transformer.transformer_blocks]
    owners = modulations(transformer)
    pairs = zip(*(part.chunk(len(owners), dim=1) for part in offsets), strict=True)
    return [
        _Home(owner, names, _OffsetModulation, ModulationOffsets(*pair))
        for (owner, names), pair in zip(owners, pairs, strict=True)
    ]


def _attach(homes: list[_Home]) -> list[tuple[nn.Module, str, nn.Module]]:
    """Put the stand-ins in their places. Returns what stood there, for `_put_back`."""
    replaced = []
    for owner, names, stand_in, offsets in homes:
        for name in names:
            before = owner._modules[name]
            assert before is not None
            owner._modules[name] = stand_in(before.plain if isinstance(before, StandIn) else before, offsets)
            replaced.append((owner, name, before))
    return replaced


def _put_back(replaced: list[tuple[nn.Module, str, nn.Module]]) -> None:
    for owner, name, before in replaced:
        before.training = getattr(owner, name).training
        owner._modules[name] = before


def offset_embedding(embedding: Tensor, offsets: ModulationOffsets) -> Tensor:
    """A vector of time and pooled text (B, D), times 1 + scale, plus shift."""
    return _added(_added(torch.ones_like(embedding), offsets.scale) * embedding, offsets.shift)


def _added(value: Tensor, offset: Tensor) -> Tensor:
    if offset.shape[0] not in (1, value.shape[0]):
        raise InvalidInput(
            f"Offsets of {offset.shape[0]} frames are attached, but the transformer runs on {value.shape[0]}. "
            "Give one strength per frame of the batch, or one for all."
        )
    return value + offset.to(device=value.device, dtype=value.dtype)


def _check_fit(transformer: nn.Module, offsets: ModulationOffsets, place: Place) -> None:
    width = offsets_width(transformer, place)
    for name, offset in zip(offsets._fields, offsets, strict=True):
        if not isinstance(offset, torch.Tensor) or offset.ndim != 2 or offset.shape[1] != width:
            shape = tuple(getattr(offset, "shape", ()))
            raise InvalidInput(f"The {name} offsets have shape {shape}; this transformer needs (frames, {width}).")
