"""How torch's threads wait for each other, set before torch is imported, which reads it once; and worker processes."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from threading import Thread

SPIN_COUNT = "10000"  # benchmarks/bench_neighbours.py


def limit_spinning() -> None:
    """Let torch's threads sleep soon when they wait for each other, so that other processes can let them go on.

    torch for Linux brings GNU's OpenMP, whose threads look for their next work some 300,000 times before they sleep.
    Where other processes want the processor, a thread that looks takes the time that the thread it waits for needs.
    Keeps a setting of the environment; child processes inherit it. To be called before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def end_with_parent() -> None:
    """Make this process end when the one that started it does, be it killed; alone it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
