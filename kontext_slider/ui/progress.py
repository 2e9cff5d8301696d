"""Steps of a render, told while it runs: the render goes to a thread of its own and its caller becomes a generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
Step = tuple[int, int]  # (steps done, steps in all)

NEWS_SECONDS = 0.15  # at most one message to the browser in this time


def watched(render: Callable[[Callable[[int, int], None]], T]) -> Generator[Step, None, T]:
    """Run `render(on_step)` and yield its steps as they happen; return its result, raise its error."""
    steps: SimpleQueue[Step | None] = SimpleQueue()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="render") as pool:
        future = pool.submit(render, lambda done, total: steps.put((done, total)))
        future.add_done_callback(lambda _: steps.put(None))
        told = 0.0
        while (step := steps.get()) is not None:
            if time.monotonic() - told >= NEWS_SECONDS:
                told = time.monotonic()
                yield step
        return future.result()
