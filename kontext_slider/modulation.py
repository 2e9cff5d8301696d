"""Attach modulation offsets to an unmodified FluxTransformer2DModel, and take them off again.

In a double block, `norm1_context` answers `(x, gate_msa, shift_mlp, scale_mlp, gate_mlp)` for the text stream. While
offsets are attached, a wrapper stands in its place, asks it and adds to `shift_mlp` and `scale_mlp`; nothing else of
the transformer changes, its state-dict keys included.

Why a stand-in module and not a forward hook: dynamo does not guard on hooks (`skip_nnmodule_hook_guards`), so a
compiled block keeps the hooks it was traced with, present or not. It does guard on submodules, and takes the wrapper's
tensors as inputs, so that new values of the same shape need no new compilation.

Legend: B frames in the batch, D width of the transformer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .checkpointing import wrap_checkpointing
from .errors import InvalidInput
from .projector import ModulationOffsets


class _OffsetNorm(nn.Module):
    """Stands in for the plain norm: same parameters under the same names, its answer offset."""

    def __init__(self, norm: nn.Module, offsets: ModulationOffsets) -> None:
        super().__init__()
        self.__dict__.update(plain=norm, offsets=offsets)  # not a submodule: names in the state dict stay as they are
        self._parameters, self._buffers, self._modules = norm._parameters, norm._buffers, norm._modules
        self.training = norm.training

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        x, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.plain(*args, **kwargs)
        shift, scale = _added(shift_mlp, self.offsets.shift), _added(scale_mlp, self.offsets.scale)
        return x, gate_msa, shift, scale, gate_mlp


class OffsetsHandle:
    """Offsets that are attached; `detach` takes them off (twice is once)."""

    def __init__(self, transformer: nn.Module, offsets: ModulationOffsets) -> None:
        self._replaced = [(block, _stand_in(block, offsets)) for block in transformer.transformer_blocks]
        self._unwrap = wrap_checkpointing(transformer, _block_offset, *offsets)

    def detach(self) -> None:
        """Put the transformer back as it was."""
        for block, norm in self._replaced:
            norm.training = block.norm1_context.training
            block._modules["norm1_context"] = norm
        self._replaced = []
        self._unwrap()


def attach_offsets(transformer: nn.Module, offsets: ModulationOffsets) -> OffsetsHandle:
    """Add `offsets` in every double block until the returned handle is detached.

    Gradients flow to the offsets, also through gradient checkpointing: a block that is recomputed in the backward pass
    sees the offsets of its forward pass, even when they are detached by then.

    Args:
        transformer: a FluxTransformer2DModel, compiled or not, with or without LoRA.
        offsets: scale and shift, (B, D) each; B is the batch of the coming calls, or 1 for all frames alike.

    Raises InvalidInput for offsets of another width and when offsets are attached already.
    """
    transformer = getattr(transformer, "_orig_mod", transformer)  # torch.compile(transformer)
    _check_fit(transformer, offsets)
    if any(isinstance(block.norm1_context, _OffsetNorm) for block in transformer.transformer_blocks):
        raise InvalidInput("This transformer has offsets attached. Detach them before attaching others.")
    return OffsetsHandle(transformer, offsets)


@contextmanager
def offsets_attached(transformer: nn.Module, offsets: ModulationOffsets) -> Iterator[None]:
    """`attach_offsets` for the length of a `with` block; detached whatever happens inside."""
    handle = attach_offsets(transformer, offsets)
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
