"""Stands for the `spaces` package on ZeroGPU: a loan runs here, with values that would survive the way to the process
that has the GPU and back, and is noted with the time and the visitor that it is asked for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from gradio.context import LocalContext


@dataclass
class Loan:
    """strengths: that it makes frames of. request: of the visitor who is charged. was_closed: before its end."""

    strengths: list[float]
    seconds: int
    request: Any
    was_closed: bool = True


@dataclass
class FakeSpaces:
    """refusal: raised in place of the next loans. is_cut: loans end before their work. is_lent: whether code runs in a
    loan now."""

    loans: list[Loan] = field(default_factory=list)
    refusal: Exception | None = None
    is_cut: bool = False
    is_lent: bool = False

    def module(self) -> ModuleType:
        module = ModuleType("spaces")
        module.GPU = self._gpu  # type: ignore[attr-defined]
        return module

    def _gpu(self, duration: Callable[..., int]) -> Callable[..., Any]:
        def decorate(task: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
            def lend(*arguments: Any) -> Iterator[Any]:
                if self.refusal is not None:
                    raise self.refusal
                loan = Loan(arguments[0], duration(*arguments), LocalContext.request.get(None))
                self.loans.append(loan)
                if self.is_cut:
                    return
                self.is_lent = True
                try:
                    with closing(task(*moved(arguments))) as items:
                        for item in items:
                            yield moved(item)
                    loan.was_closed = False
                finally:
                    self.is_lent = False

            return lend

        return decorate


def moved(value: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(value))
