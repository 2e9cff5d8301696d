"""What holds while a block runs must hold again when gradient checkpointing recomputes it in the backward pass.

By then the `with` block of the forward pass is usually over. So the transformer's checkpointing function is wrapped
for as long as the condition lasts, and what it is given to save and to recompute brings the condition along.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

_FUNCTION = "_gradient_checkpointing_func"


class ConditionedBlock:
    """A transformer block under a condition: a function of the block's inputs and, behind them, of the condition's."""

    def __init__(self, block: Any, condition: Callable[..., AbstractContextManager], num_tensors: int) -> None:
        self._block, self._condition, self._num_tensors = block, condition, num_tensors

    def __call__(self, *args: Any) -> Any:
        num_inputs = len(args) - self._num_tensors
        with self._condition(self._block, *args[num_inputs:]):
            return self._block(*args[:num_inputs])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)


def wrap_checkpointing(
    transformer: nn.Module, condition: Callable[..., AbstractContextManager], *tensors: Any
) -> Callable[[], None]:
    """Recompute every block under `condition(block, *tensors)`; gradients reach `tensors`. Returns the way back."""
    plain = vars(transformer).get(_FUNCTION)
    if plain is None:  # checkpointing was never enabled
        return lambda: None

    def checkpoint(block: Any, *args: Any) -> Any:
        return plain(ConditionedBlock(block, condition, len(tensors)), *args, *tensors)

    def unwrap() -> None:
        if vars(transformer).get(_FUNCTION) is checkpoint:
            setattr(transformer, _FUNCTION, plain)

    setattr(transformer, _FUNCTION, checkpoint)
    return unwrap
