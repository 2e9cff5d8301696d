"""A seeded fuzzer: damaged and odd pictures, masks, result files, manifests, model folders, sliders and values.

python -m tests.hostile.fuzz --cases 30000 --seed 1     # prints a row for each target; exit status 1 for any failure

A case fails where it ends in an exception that is not one of ours (`KontextSliderError`), takes more than 10 s of
the processor, or takes the process beyond 1.5 GB. A case is made of (seed, number) alone: `--only 1234` runs that one
again.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kontext_slider.errors import KontextSliderError
from tests.hostile.targets import Targets

MAX_SECONDS, MAX_BYTES = 10.0, 1.5e9
HANGS = 120  # seconds by the clock, after which a case is ended


class Hangs(BaseException):
    """A case waits for something."""


@dataclass
class Outcome:
    """What came of the cases of one target."""

    taken: int = 0  # read without an error: a harmless change
    refused: int = 0  # with a sentence
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds of the processor


def peak_bytes() -> int:
    """The most memory that this process has held so far; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def run(cases: range, seed: int, folder: Path, target: str | None = None) -> dict[str, Outcome]:
    """The outcome by target; `target`: all cases are of that one."""

    def end(number: int, frame: object) -> None:
        raise Hangs

    signal.signal(signal.SIGALRM, end)
    targets, outcomes = Targets(folder), {}
    names, weights = list(targets.weights), list(targets.weights.values())
    for number in cases:
        rng = random.Random(f"{seed} {number}")
        name = target or rng.choices(names, weights)[0]
        outcome = outcomes.setdefault(name, Outcome())
        start, before = time.process_time(), peak_bytes()
        try:
            signal.alarm(HANGS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(targets, name)(rng)
            outcome.taken += 1
        except KontextSliderError as error:
            outcome.refused += 1
            if not str(error).strip():
                outcome.failures.append(f"case {number}: an error without a sentence")
        except KeyboardInterrupt:
            raise
        except BaseException:  # a panic of a library in Rust is no Exception
            last = traceback.format_exc().strip().splitlines()
            outcome.failures.append(
                f"case {number}: {last[-1][:200]} | {last[-3].strip()[:150] if len(last) > 2 else ''}"
            )
        finally:
            signal.alarm(0)
        seconds = time.process_time() - start
        outcome.slowest = max(outcome.slowest, seconds)
        if seconds > MAX_SECONDS:
            outcome.failures.append(f"case {number}: {seconds:.1f} s")
        if peak_bytes() > max(MAX_BYTES, before):
            outcome.failures.append(f"case {number}: {peak_bytes() / 1e9:.1f} GB")
    return outcomes


def main() -> int:
    """Run the cases that the flags name, and print what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help="all cases are of this target")
    parser.add_argument("--only", type=int, help="the number of one case")
    args = parser.parse_args()
    cases = range(args.cases) if args.only is None else range(args.only, args.only + 1)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(cases, args.seed, Path(folder), args.target)
    print("| target | cases | taken | refused with a sentence | failed | slowest |\n|---|---|---|---|---|---|")
    for name, outcome in sorted(outcomes.items()):
        counts = (outcome.taken, outcome.refused, len(outcome.failures))
        print(
            f"| {name} | {outcome.taken + outcome.refused} | {' | '.join(map(str, counts))} | {outcome.slowest:.2f} s |"
        )
    print(f"Seed {args.seed}. The most memory: {peak_bytes() / 1e9:.2f} GB.")
    failures = [f"{name} {failure}" for name, outcome in outcomes.items() for failure in outcome.failures]
    kinds = Counter(failure.split(": ", 1)[-1] for failure in failures)
    print("\n".join(f"{count} x {kind}" for kind, count in kinds.most_common(40)))
    print("\n".join(failures[:60]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
