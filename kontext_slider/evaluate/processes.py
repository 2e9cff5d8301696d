"""Work shared by this process and others, which share its threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import torch

from kontext_slider.threads import end_with_parent

T = TypeVar("T")


def share_out(work: Callable[[int], T], num_processes: int) -> list[T]:
    """`work(k)` for k from 0 to `num_processes` - 1, the first here and each other in a process of its own; results in
    that order. A small model's matrices are too small for many threads, so each has its part of them.

    work: picklable. What it raises is raised here, once the others are done."""
    if num_processes == 1:
        return [work(0)]
    own_threads = torch.get_num_threads()
    with_threads = partial(_with_threads, max(1, own_threads // num_processes), work)
    try:
        with ProcessPoolExecutor(num_processes - 1, get_context("spawn"), end_with_parent) as pool:
            others = [pool.submit(with_threads, number) for number in range(1, num_processes)]
            return [with_threads(0), *(other.result() for other in others)]
    finally:
        torch.set_num_threads(own_threads)


def _with_threads(num_threads: int, work: Callable[[int], T], number: int) -> T:
    torch.set_num_threads(num_threads)
    return work(number)
