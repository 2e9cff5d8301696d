"""Attach modulation offsets to an unmodified FluxTransformer2DModel, and take them off again.

Two places. "text_stream", the paper's: in a double block, `norm1_context` answers `(x, gate_msa, shift_mlp, scale_mlp,
gate_mlp)` for the text stream; while offsets are attached, a wrapper stands in its place, asks it and adds to
`shift_mlp` and `scale_mlp`. "time_text_embed": the vector of time and pooled text, which drives every modulation of the
transformer, is scaled and shifted once. Nothing else of the transformer changes, its state-dict keys included.

Why a stand-in module and not a forward hook: dynamo does not guard on hooks (`skip_nnmodule_hook_guards`), so a
compiled block keeps the hooks it was traced with, present or not. It does guard on submodules, and takes the wrapper's
tensors as inputs, so that new values of the same shape need no new compilation.

Legend: B frames in the batch, D width of the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


class OffsetsHandle:
    """Offsets that are attached; `detach` takes them off (twice is once)."""

    def __init__(self, transformer: nn.Module, offsets: ModulationOffsets, place: Place) -> None:
        self._unwrap: Callable[[], None] = lambda: None
        if place == "time_text_embed":
            self._replaced = [(transformer, "time_text_embed", transformer.time_text_embed)]
            transformer._modules["time_text_embed"] = _OffsetEmbedding(transformer.time_text_embed, offsets)
            return
        blocks = transformer.transformer_blocks
        self._replaced = [(block, "norm1_context", _stand_in(block, offsets)) for block in blocks]
        self._unwrap = wrap_checkpointing(transformer, _block_offset, *offsets)

    def detach(self) -> None:
        """Put the transformer back as it was."""
        for parent, name, plain in self._replaced:
            plain.training = parent._modules[name].training
            parent._modules[name] = plain
        self._replaced = []
        self._unwrap()


def attach_offsets(transformer: nn.Module, offsets: ModulationOffsets, place: Place = "text_stream") -> OffsetsHandle:
    """Add `offsets` until the returned handle is detached.

    Gradients flow to the offsets, also through gradient checkpointing: a block that is recomputed in the backward pass
    sees the offsets of its forward pass, even when they are detached by then.

    Args:
        transformer: a FluxTransformer2DModel, compiled or not, with or without LoRA.
        offsets: scale and shift, (B, D) each; B is the batch of the coming calls, or 1 for all frames alike.
        place: "text_stream" (every double block, as in the paper) or "time_text_embed".

    Raises InvalidInput for offsets of another width and when offsets are attached already.
    """
    transformer = getattr(transformer, "_orig_mod", transformer)  # torch.compile(transformer)
    _check_fit(transformer, offsets)
    homes = [transformer.time_text_embed, *(block.norm1_context for block in transformer.transformer_blocks)]
    if any(isinstance(module, StandIn) for module in homes):
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


def _stand_in(block: nn.Module, offsets: ModulationOffsets) -> nn.Module:
    """Put a wrapper around the block's plain norm; returns what stood there."""
    before = block.norm1_context
    norm = before.plain if isinstance(before, _OffsetNorm) else before
    block._modules["norm1_context"] = _OffsetNorm(norm, offsets)
    return before


@contextmanager
def _block_offset(block: nn.Module, scale: Tensor, shift: Tensor) -> Iterator[None]:
    """The condition of a recomputed block: these offsets, whatever is attached by then."""
    if not hasattr(block, "norm1_context"):  # single blocks take none
        yield
        return
    before = _stand_in(block, ModulationOffsets(scale, shift))
    try:
        yield
    finally:
        block._modules["norm1_context"] = before


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


def _check_fit(transformer: nn.Module, offsets: ModulationOffsets) -> None:
    width = transformer.inner_dim
    for name, offset in zip(offsets._fields, offsets, strict=True):
        if not isinstance(offset, torch.Tensor) or offset.ndim != 2 or offset.shape[1] != width:
            shape = tuple(getattr(offset, "shape", ()))
            raise InvalidInput(f"The {name} offsets have shape {shape}; this transformer needs (frames, {width}).")
