"""Work in a thread of its own, while the caller goes on with what it sends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_thread(
    work: Callable[[Callable[[Item], None]], Result], end: Callable[[], None] = lambda: None
) -> Generator[Item, None, Result]:
    """Run `work(send)` in a thread and yield what it sends. Returns its result and raises its error.

    The thread has the caller's context variables. Gradio keeps the visitor's request in one of them, and ZeroGPU
    charges its GPU time to the visitor of that request.
    end: makes the work stop; it is called when nobody waits for its items any more."""
    items: SimpleQueue[tuple[Item] | None] = SimpleQueue()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="render") as pool:
        future = pool.submit(copy_context().run, work, lambda item: items.put((item,)))
        future.add_done_callback(lambda _: items.put(None))
        try:
            while (item := items.get()) is not None:
                yield item[0]
        except GeneratorExit:
            end()  # before the pool waits for its thread
            raise
        return future.result()
