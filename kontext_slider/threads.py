"""How torch's threads wait for each other: set before torch is imported, which reads it once."""

from __future__ import annotations

import os

SPIN_COUNT = "10000"  # benchmarks/bench_neighbours.py


def limit_spinning() -> None:
    """Let torch's threads sleep soon when they wait for each other, so that other processes can let them go on.

    torch for Linux brings GNU's OpenMP, whose threads look for their next work some 300,000 times before they sleep.
    Where other processes want the processor, a thread that looks takes the time that the thread it waits for needs.
    Leaves alone what the environment says already; child processes inherit it. To be called before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
