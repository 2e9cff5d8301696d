"""Memory over many sessions: 200 opened and closed, ten strengths each, must end where they began.

Prints the resident set size after every tenth of the run and one line of JSON; "growth_mb" is what the second half
added. Caches are small, so that they are full after the first tenth.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
from pathlib import Path

import numpy as np
from line import print_line
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.presets import load_pipeline

MB = 1024**2


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--strengths", type=int, default=10, help="per session")
    parser.add_argument("--quick", action="store_true", help="forty sessions of three strengths")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    sessions, strengths = (40, 3) if args.quick else (args.sessions, args.strengths)
    engine = SliderEngine(load_pipeline(args.model), MB, MB, 4 * MB, speed="fast")
    engine.caches.residuals.max_bytes = MB  # has no argument of its own
    levels = []
    for number in range(sessions):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        with engine.open(Image.fromarray(pixels), "make it snow", seed=number, size=128) as session:
            for k in range(strengths):
                session.render((k + 0.5) / strengths)
        if (number + 1) % (sessions // 10) == 0:
            gc.collect()
            levels.append(round(resident_mb(), 1))
            print(f"{number + 1:5d} sessions, {(number + 1) * strengths:6d} strengths: {levels[-1]:8.1f} MB")
    line = {
        "sessions": sessions,
        "strengths": sessions * strengths,
        "levels_mb": levels,
        "growth_mb": round(levels[-1] - levels[4], 1),
        "date": datetime.date.today().isoformat(),
    }
    print_line(line, args.out)


if __name__ == "__main__":
    main()
