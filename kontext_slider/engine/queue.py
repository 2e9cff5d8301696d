"""One model and many threads: whose turn it is, which frames are being made, and how many at once.

Turns are first come, first served. Sweeps are not urgent: between two denoise steps a sweep lets every urgent turn
that is waiting go first and then goes on where it was. A sweep's frame is urgent for as long as an urgent call waits
for that very frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import InvalidInput

NUM_GOOD = 8  # batches that must succeed before a larger one is tried
MAX_NUM_GOOD = 512


@dataclass(eq=False)
class Turn:
    """A thread's claim on the device. `check` raises when its work is not wanted any more."""

    num_urgent: int  # urgent calls for it: its own, and those that wait for the same frame
    check: Callable[[], object]
    thread: int = field(default_factory=threading.get_ident)

    @property
    def urgent(self) -> bool:
        return self.num_urgent > 0


class RenderQueue:
    """The lock of one engine. All waiting is on one condition, so a changed request wakes whoever it concerns."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._holder: Turn | None = None
        self._claimed: dict[Hashable, Turn] = {}

    @contextmanager
    def turn(self, urgent: bool, check: Callable[[], object]) -> Iterator[Turn]:
        """Hold the device. While waiting, `check` is called at every change and what it raises ends the wait."""
        with self.hold(Turn(int(urgent), check)) as turn:
            yield turn

    @contextmanager
    def hold(self, turn: Turn) -> Iterator[Turn]:
        """`turn`, for a turn that exists already."""
        try:
            self._take(turn)
            yield turn
        finally:
            self._release(turn)

    @contextmanager
    def claim(self, keys: Sequence[Hashable], urgent: bool, check: Callable[[], object]) -> Iterator[Turn]:
        """Make the frames `keys`, alone, in the turn that is yielded (`hold` it).

        Other calls for one of them wait here and then find it made; if such a call is urgent, so are the frames.
        """
        turn = Turn(int(urgent), check)
        with self._changed:
            self._refuse_nesting()
            while maker := next((self._claimed[key] for key in keys if key in self._claimed), None):
                check()
                self._wait_for(maker, urgent)
            check()
            self._claimed |= dict.fromkeys(keys, turn)
        try:
            yield turn
        finally:
            with self._changed:
                for key in keys:
                    del self._claimed[key]
                self._changed.notify_all()

    @property
    def num_waiting(self) -> int:
        """Turns that wait for the device."""
        with self._changed:
            return len(self._waiting)

    @property
    def claims(self) -> list[Turn]:
        """The turns in which frames are being made, or will be."""
        with self._changed:
            return list({id(turn): turn for turn in self._claimed.values()}.values())

    def urgent_turn_waits(self) -> bool:
        with self._changed:
            return any(turn.urgent for turn in self._waiting)

    def go_last(self, turn: Turn) -> None:
        """Give the device to those who wait now and take it again after them."""
        self._release(turn)
        self._take(turn)

    def wake(self) -> None:
        """Let everybody who waits check whether its work is still wanted."""
        with self._changed:
            self._changed.notify_all()

    def _wait_for(self, maker: Turn, urgent: bool) -> None:
        maker.num_urgent += int(urgent)
        try:
            self._changed.wait()
        finally:
            maker.num_urgent -= int(urgent)

    def _take(self, turn: Turn) -> None:
        with self._changed:
            self._refuse_nesting()
            self._waiting.append(turn)
            try:
                while self._holder is not None or self._waiting[0] is not turn:
                    turn.check()
                    self._changed.wait()
                turn.check()
                self._holder = turn
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _release(self, turn: Turn) -> None:
        with self._changed:
            if self._holder is turn:
                self._holder = None
                self._changed.notify_all()

    def _refuse_nesting(self) -> None:
        if self._holder is not None and self._holder.thread == threading.get_ident():
            raise InvalidInput("A frame was asked for inside an on_step callback. Ask for it after the render returns.")


class BatchSize:
    """How many strengths are denoised at once: halved when memory runs short, doubled after some batches that succeed.

    Another process may have taken the memory for a moment, so one failure must not last for ever. Where a larger batch
    fails again, twice as many batches must succeed before the next try.
    The thread that holds the device calls `failed` and `succeeded`; any thread may read `size`.

    most: strengths in a batch, 1 or more."""

    def __init__(self, most: int) -> None:
        self.size = self._most = most
        self._num_needed = NUM_GOOD
        self._num_good = 0  # batches of this size that succeeded
        self._is_trial = False  # this size was raised, and no batch of it has succeeded yet

    def failed(self, num_strengths: int) -> None:
        """A batch of so many strengths, 2 or more, did not fit into memory."""
        if self._is_trial:
            self._num_needed = min(2 * self._num_needed, MAX_NUM_GOOD)
        self.size, self._num_good, self._is_trial = min(self.size, num_strengths // 2), 0, False

    def succeeded(self, num_strengths: int) -> None:
        """A batch of so many strengths is finished."""
        if num_strengths < self.size:
            return
        if self._is_trial:
            self._num_needed, self._is_trial = NUM_GOOD, False
        self._num_good += 1
        if self._num_good >= self._num_needed and self.size < self._most:
            self.size, self._num_good, self._is_trial = min(2 * self.size, self._most), 0, True
