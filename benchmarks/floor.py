"""What every way to compute a frame has to multiply: its products and attention again, alone, at their own shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = (
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
)


class _Products(TorchDispatchMode):
    """Keeps the operands of each product, or attention, that is computed under it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS:
            self.made.append((function, args, kwargs or {}))
        return function(*args, **(kwargs or {}))


def products_of(compute: Callable[[], object]) -> Callable[[int], None]:
    """A call that multiplies what `compute` multiplies, operands included, and nothing else."""
    with torch.no_grad(), _Products() as seen:
        compute()

    def call(number: int) -> None:
        with torch.no_grad():
            for product, operands, options in seen.made:
                product(*operands, **options)

    return call
