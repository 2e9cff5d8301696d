"""What every way to compute a frame has to multiply: its products and attention again, alone, at their own shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LINEAR = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)
ATTENTION = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
)


class _Products(TorchDispatchMode):
    """Keeps the operands of each product, or attention, that is computed under it."""

    def __init__(self, operations: Sequence[object]) -> None:
        super().__init__()
        self._operations = operations
        self.made: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self._operations:
            self.made.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))


def products_of(
    compute: Callable[[], object], operations: Sequence[object] = (*LINEAR, *ATTENTION)
) -> Callable[[int], None]:
    """A call that multiplies what `compute` multiplies by `operations`, operands included, and nothing else."""
    with torch.no_grad(), _Products(operations) as seen:
        compute()

    def call(number: int) -> None:
        with torch.no_grad():
            for product, operands, options in seen.made:
                product(*operands, **options)

    return call
