"""Threads that report to their caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context

import pytest
from gradio.context import LocalContext

from kontext_slider.ui.background import in_thread

TIMEOUT = 30


def test_the_thread_has_the_context_of_its_caller():
    """A new thread has an empty one: ZeroGPU then knew no visitor, and charged the Space's own small quota."""

    def ask() -> list[object]:
        LocalContext.request.set("the visitor's request")
        return list(in_thread(lambda send: send(LocalContext.request.get(None))))

    assert copy_context().run(ask) == ["the visitor's request"]


def test_items_arrive_in_order_and_the_result_is_returned():
    def work(send: Callable[[int | None], None]) -> str:
        for item in (1, None, 0):
            send(item)
        return "result"

    received = []

    def caller():
        received.append((yield from in_thread(work)))

    assert list(caller()) == [1, None, 0] and received == ["result"]


def test_an_error_reaches_the_caller_after_what_was_sent():
    def work(send: Callable[[int], None]) -> None:
        send(1)
        raise ValueError("broken")

    items = in_thread(work)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_a_caller_that_leaves_ends_the_work():
    """The pool waits for its thread: without a word to it, the page that had gone kept the device to the end."""
    ended = threading.Event()

    def work(send: Callable[[int], None]) -> None:
        send(1)
        assert ended.wait(TIMEOUT)

    with closing(in_thread(work, ended.set)) as items:
        assert next(items) == 1
    assert ended.is_set()
