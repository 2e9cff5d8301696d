"""Attach a slider's offsets to an unmodified transformer, and take them off again.

The base model has the places (`base.modulation_sites`). "text_stream", the paper's place: the modulation of a
double block's text stream gives shifts, scales and gates; a wrapper adds to the shift and scale of the MLP.
"time_text_embed": the vector of time and pooled text, which drives every modulation of the transformer, is scaled and
shifted once. Nothing else of the transformer changes, its state-dict keys included.

Why a wrapper module and not a forward hook: dynamo does not guard on hooks (`skip_nnmodule_hook_guards`), so a
compiled block keeps the hooks it was traced with, present or not. It does guard on submodules, and takes the wrapper's
tensors as inputs, so that new values of the same shape need no new compilation.

Legend: B frames in the batch, D width of the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn

from .base import Place, family_of
from .errors import InvalidInput
from .projector import ModulationOffsets

_CHECKPOINTING = "_gradient_checkpointing_func"  # of a transformer
Replaced = list[tuple[nn.Module, str, nn.Module]]  # owner, name, and the module that stood there


class Wrapper(nn.Module):
    """Takes the place of a plain module: same parameters under the same names; its answer is offset."""

    def __init__(self, plain: nn.Module, offsets: ModulationOffsets, mlp: tuple[int, int]) -> None:
        super().__init__()
        # not a submodule: names in the state dict stay as they are
        self.__dict__.update(plain=plain, offsets=offsets, mlp=mlp)
        self._parameters, self._buffers, self._modules = plain._parameters, plain._buffers, plain._modules
        self.training = plain.training


class _OffsetText(Wrapper):
    """For the modulation of a block's text stream: the MLP's shift and scale, in places `mlp` of its answer."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        answer = list(self.plain(*args, **kwargs))
        for place, offset in zip(self.mlp, (self.offsets.shift, self.offsets.scale), strict=True):
            answer[place] = _added(answer[place], offset)
        return tuple(answer)


class _OffsetEmbedding(Wrapper):
    """For the module that embeds time and pooled text: its answer (B, D), times 1 + scale, plus shift."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        embedding = self.plain(*args, **kwargs)
        return _added(_added(torch.ones_like(embedding), self.offsets.scale) * embedding, self.offsets.shift)


_WRAPPERS = {"text_stream": _OffsetText, "time_text_embed": _OffsetEmbedding}


class OffsetsHandle(ExitStack):
    """Offsets that are attached; `detach` takes them off (twice is once)."""

    detach = ExitStack.close


def attach_offsets(transformer: nn.Module, offsets: ModulationOffsets, place: Place = "text_stream") -> OffsetsHandle:
    """Add `offsets` until the returned handle is detached.

    Gradients flow to the offsets, also through gradient checkpointing: a block that is recomputed in the backward pass
    sees the offsets of its forward pass, even when they are detached by then.

    Args:
        transformer: of a family in `base`, compiled or not, with or without LoRA.
        offsets: scale and shift, (B, D) each; B is the batch of the coming calls, or 1 for all frames alike.
        place: "text_stream" (every double block, as in the paper) or "time_text_embed".

    Raises InvalidInput for offsets of another width and when offsets are attached already.
    """
    transformer = getattr(transformer, "_orig_mod", transformer)  # torch.compile(transformer)
    width = transformer.inner_dim
    for name, offset in zip(offsets._fields, offsets, strict=True):
        if not isinstance(offset, torch.Tensor) or offset.ndim != 2 or offset.shape[1] != width:
            shape = tuple(getattr(offset, "shape", ()))
            raise InvalidInput(f"The {name} offsets have shape {shape}; this transformer needs (frames, {width}).")
    family = family_of(transformer)
    sites = [site for each in get_args(Place) for site in family.modulation_sites(transformer, each)]
    if any(isinstance(getattr(owner, name), Wrapper) for owner, names in sites for name in names):
        raise InvalidInput("This transformer has offsets attached. Detach them before attaching others.")

    @contextmanager
    def recomputed(block: nn.Module, *tensors: Tensor) -> Iterator[None]:  # in the backward pass
        replaced = _attach(transformer, ModulationOffsets(*tensors), place, only=block)
        try:
            yield
        finally:
            _put_back(replaced)

    handle = OffsetsHandle()
    handle.callback(_put_back, _attach(transformer, offsets, place))
    handle.callback(wrap_checkpointing(transformer, recomputed, *offsets))
    return handle


@contextmanager
def offsets_attached(
    transformer: nn.Module, offsets: ModulationOffsets, place: Place = "text_stream"
) -> Iterator[None]:
    """`attach_offsets` for the length of a `with` block; detached whatever happens inside."""
    with attach_offsets(transformer, offsets, place):
        yield


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


def _attach(
    transformer: nn.Module, offsets: ModulationOffsets, place: Place, only: nn.Module | None = None
) -> Replaced:
    """Put the wrappers in their places, those of one owner alone or all. Returns what `_put_back` takes."""
    family, replaced = family_of(transformer), Replaced()
    for owner, names in family.modulation_sites(transformer, place):
        for name in names if only in (None, owner) else ():
            before = owner.get_submodule(name)
            plain = before.plain if isinstance(before, Wrapper) else before
            owner._modules[name] = _WRAPPERS[place](plain, offsets, family.mlp_shift_scale)
            replaced.append((owner, name, before))
    return replaced


def _put_back(replaced: Replaced) -> None:
    for owner, name, before in replaced:
        before.training = getattr(owner, name).training
        owner._modules[name] = before


def _added(value: Tensor, offset: Tensor) -> Tensor:
    if offset.shape[0] not in (1, value.shape[0]):
        raise InvalidInput(
            f"Offsets of {offset.shape[0]} frames are attached, but the transformer runs on {value.shape[0]}. "
            "Give one strength per frame of the batch, or one for all."
        )
    return value + offset.to(device=value.device, dtype=value.dtype)


def wrap_checkpointing(
    transformer: nn.Module, condition: Callable[..., AbstractContextManager], *tensors: Any
) -> Callable[[], None]:
    """Recompute every block under `condition(block, *tensors)`; gradients reach `tensors`. Returns what undoes it.

    What holds while a block runs must hold again when gradient checkpointing recomputes it in the backward pass, and by
    then the `with` block of the forward pass is usually over. So the transformer's checkpointing function is wrapped.
    """
    plain = vars(transformer).get(_CHECKPOINTING)
    if plain is None:  # checkpointing was never enabled
        return lambda: None

    def checkpoint(block: Any, *inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            with condition(block, *args[len(inputs) :]):
                return block(*args[: len(inputs)])

        return plain(run, *inputs, *tensors)

    def unwrap() -> None:
        if vars(transformer).get(_CHECKPOINTING) is checkpoint:
            setattr(transformer, _CHECKPOINTING, plain)

    setattr(transformer, _CHECKPOINTING, checkpoint)
    return unwrap
