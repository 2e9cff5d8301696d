"""What every way to compute a frame has to multiply: its matrix products again, alone, at their own shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


class _Products(TorchDispatchMode):
    """Keeps the operands of each product that is computed under it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS:
            self.made.append((function, args))
        return function(*args, **(kwargs or {}))


def products_of(compute: Callable[[], object]) -> Callable[[int], None]:
    """A call that multiplies what `compute` multiplies, operands included, and nothing else."""
    with torch.no_grad(), _Products() as seen:
        compute()

    def call(number: int) -> None:
        with torch.no_grad():
            for product, operands in seen.made:
                product(*operands)

    return call
