"""How many strengths are denoised at once: fewer where memory ran short, and more again once it went well."""

from __future__ import annotations

PATIENCE = 8  # batches that must go well before a larger one is tried
MOST_PATIENCE = 512


class BatchSize:
    """Halved when memory runs short, doubled after some batches that went well.

    A neighbour on the device may have taken the memory for a moment, so one failure must not last for ever. Where a
    larger batch fails again, twice as many batches must go well before the next try.
    The thread that holds the device calls `ran_short` and `went_well`; any thread may read `size`.

    most: strengths in a batch, 1 or more."""

    def __init__(self, most: int) -> None:
        self.size = self._most = most
        self._patience = PATIENCE
        self._num_good = 0  # batches of this size that went well
        self._is_trial = False  # this size was raised, and no batch of it has gone well yet

    def ran_short(self, num_strengths: int) -> None:
        """A batch of so many strengths, 2 or more, did not fit into memory."""
        if self._is_trial:
            self._patience = min(2 * self._patience, MOST_PATIENCE)
        self.size, self._num_good, self._is_trial = min(self.size, num_strengths // 2), 0, False

    def went_well(self, num_strengths: int) -> None:
        """A batch of so many strengths is finished."""
        if num_strengths < self.size:
            return
        if self._is_trial:
            self._patience, self._is_trial = PATIENCE, False
        self._num_good += 1
        if self._num_good >= self._patience and self.size < self._most:
            self.size, self._num_good, self._is_trial = min(2 * self.size, self._most), 0, True
