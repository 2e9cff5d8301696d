"""Eight people at one app for minutes: does it stay as large as it was, and does everybody get the right frames?

The app runs as `app.py` starts it. Each person is a connection that does what a page does: upload, Edit, several
positions of the slider, another photograph, a page that is closed. Some of the frames that it fetches are
compared with frames that an exact engine of this process renders alone: how many differ, and the lowest PSNR. One more
page stays open: it moves its slider at half time and at the end, when its edit must still be there. A "first frame" is
the time from Edit to the first one, a "rest" from a position to its exact frame. Memory, descriptors, threads
and files of the app are read every few seconds; the last third is held against the second. Before that, one person
drags in an open edit, then all of them do: a position every three seconds in the mean. How much longer do they wait for
the exact frame? Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from line import print_line
from page import STEPS, Page

from kontext_slider import SliderEngine
from kontext_slider.images import read_image
from kontext_slider.metrics.distances import psnr
from kontext_slider.presets import load_pipeline
from kontext_slider.ui.edits import size_of

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = sorted((ROOT / "assets" / "photos").glob("*.jpg"))
WORDS = ("turn day into night", "make it snow", "add a sepia tone", "make it foggy", "draw it with a pencil")
LOOK_SECONDS = 5.0


@dataclass
class Findings:
    """What the people have seen, together. most: frames to keep."""

    most: int

    first_seconds: list[float] = field(default_factory=list)
    rest_seconds: list[float] = field(default_factory=list)
    frames: dict[tuple[str, str, float], bytes] = field(default_factory=dict)  # photograph, words, strength
    num_edits: int = 0
    is_alive: bool = False  # the edit of the page that stays, at the end
    problems: list[str] = field(default_factory=list)

    def edit(self, page: Page, photograph: Path, words: str) -> dict[str, Any]:
        """Let a page make an edit, and note it; the canvas when the strip is filled."""
        canvas, first = page.edit(photograph, words)
        self.first_seconds += [] if first is None else [first]
        self.num_edits += 1
        return canvas


def stay(address: str, end: float, findings: Findings) -> None:
    """What the page does that stays open."""
    with closing(Page(address)) as page:
        canvas = findings.edit(page, PHOTOS[0], WORDS[0])
        for moment, strength in (((time.monotonic() + end) / 2, 0.33), (end, 0.77)):
            time.sleep(max(0.0, moment - time.monotonic()))
            after = page.rest(canvas, strength)
            there = [frame["strength"] for frame in after["frames"] if not frame["preview"]]
            if after["edit"] != canvas["edit"] or after.get("is_lost") or strength not in there:
                findings.problems.append(f"the edit of the page that stays is lost: {str(after)[:200]}")
                return
    findings.is_alive = True


def person(address: str, number: int, end: float, findings: Findings) -> None:
    """What one person does until `end` (monotonic seconds)."""
    rng = random.Random(number)
    while time.monotonic() < end:
        try:
            visit(Page(address), rng, end, findings)
        except Exception as error:
            findings.problems.append(f"{type(error).__name__}: {error}")
            time.sleep(1)


def visit(page: Page, rng: random.Random, end: float, findings: Findings) -> None:
    """A page that is opened, used for some edits and closed."""
    with closing(page):
        for _ in range(rng.randrange(1, 4)):
            photograph, words = rng.choice(PHOTOS), rng.choice(WORDS)
            canvas = findings.edit(page, photograph, words)
            keep(page, canvas, photograph, words, findings, rng)
            for _ in range(rng.randrange(2, 6)):
                if time.monotonic() > end:
                    return
                strength, start = round(rng.random(), 2), time.monotonic()
                canvas = page.rest(canvas, strength)
                findings.rest_seconds.append(time.monotonic() - start)
                keep(page, canvas, photograph, words, findings, rng)
                time.sleep(rng.uniform(0, 1.0))


def keep(page: Page, canvas: dict, photograph: Path, words: str, findings: Findings, rng: random.Random) -> None:
    """Fetch half of the frames, as a browser does, and keep some of them to compare."""
    for frame in canvas.get("frames", []):
        key = (photograph.name, words, frame["strength"])
        if frame["preview"] or key in findings.frames or rng.random() < 0.5:
            continue
        picture = page.fetch(frame["file"])
        if len(findings.frames) < findings.most:
            findings.frames[key] = picture


def look_at(process: int, folder: Path) -> dict[str, float]:
    """Megabytes of memory, descriptors, threads and megabytes of files of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "memory_mb": int(values["VmRSS"].split()[0]) / 1024,
        "descriptors": len(list(Path(f"/proc/{process}/fd").iterdir())),
        "threads": int(values["Threads"]),
        "files_mb": size_of(folder) / 1e6,
    }


def compare(findings: Findings) -> tuple[int, float]:
    """How many kept frames differ from those that an engine renders alone, and the lowest PSNR."""
    engine, num_other, lowest = SliderEngine(load_pipeline("pocket"), speed="exact"), 0, float("inf")
    edits = {(photograph, words) for photograph, words, _ in findings.frames}
    for photograph, words in sorted(edits):
        with engine.open(ROOT / "assets" / "photos" / photograph, words, seed=0, steps=STEPS) as session:
            for (name, text, strength), content in findings.frames.items():
                if (name, text) != (photograph, words):
                    continue
                seen, alone = np.asarray(read_image(content)), np.asarray(session.render(strength))
                num_other += int((seen != alone).any())
                lowest = min(
                    lowest, psnr(np.divide(seen, 255, dtype=np.float32), np.divide(alone, 255, dtype=np.float32))
                )
    return num_other, lowest


def soak(speed: str, minutes: float, dragged: float, people: int, most: int) -> dict[str, Any]:
    """One app at one speed: `dragged` minutes of one person and of all, then `minutes` of visits."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "app.py"), "--speed", speed]
        environment = {**os.environ, "GRADIO_TEMP_DIR": folder}
        app = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        try:
            assert app.stdout
            address = next(line for line in app.stdout if "is at" in line).split()[-1]
            drags = {"drag_one_s": drag(address, 1, dragged), "drag_all_s": drag(address, people, dragged)}
            return drags | watch(app.pid, Path(folder), address, speed, minutes, people, most)
        finally:
            app.terminate()
            app.wait()


def drag(address: str, people: int, minutes: float) -> dict[str, float]:
    """Seconds from a position to its exact frame; everybody drags in an edit of their own, whose strip is full."""
    findings, all_open = Findings(0), threading.Barrier(people)

    def one(number: int) -> None:
        try:
            drag_alone(number)
        except Exception as error:  # the others wait at the barrier
            findings.problems.append(f"{type(error).__name__}: {error}")
            all_open.abort()

    def drag_alone(number: int) -> None:
        rng = random.Random(number)
        with closing(Page(address)) as page:
            canvas = findings.edit(page, PHOTOS[number % len(PHOTOS)], WORDS[number % len(WORDS)])
            all_open.wait()
            end = time.monotonic() + 60 * minutes
            while time.monotonic() < end:
                time.sleep(rng.uniform(1, 5))
                start = time.monotonic()
                canvas = page.rest(canvas, round(rng.random(), 4))
                findings.rest_seconds.append(time.monotonic() - start)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if findings.problems:
        raise RuntimeError(findings.problems[0])
    return _quantiles(findings.rest_seconds)


def watch(
    process: int, folder: Path, address: str, speed: str, minutes: float, people: int, most: int
) -> dict[str, Any]:
    """Let the people in, and look at the app until they are gone."""
    findings, end = Findings(most), time.monotonic() + 60 * minutes
    threads = [threading.Thread(target=stay, args=(address, end, findings))]
    threads += [threading.Thread(target=person, args=(address, n, end, findings)) for n in range(people)]
    for thread in threads:
        thread.start()
    looks = []
    while any(thread.is_alive() for thread in threads):
        looks.append(look_at(process, folder))
        if len(looks) % 12 == 1:  # a long run may be ended early
            print(
                f"{len(looks) * LOOK_SECONDS:.0f} s, {findings.num_edits} edits: {looks[-1]}",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(LOOK_SECONDS)
    looks += [look_at(process, folder)] * max(0, 3 - len(looks))  # of a very short run
    num_other, lowest = compare(findings)
    third = len(looks) // 3
    middle, last = looks[third : 2 * third], looks[-third:]
    return {
        "speed": speed,
        "edits": findings.num_edits,
        "first_frame_s": _quantiles(findings.first_seconds),
        "rest_s": _quantiles(findings.rest_seconds),
        "frames_compared": len(findings.frames),
        "frames_that_differ": num_other,
        "lowest_psnr_db": None if lowest == float("inf") else round(lowest, 1),
        "middle_third": {name: round(statistics.median(look[name] for look in middle), 1) for name in looks[0]},
        "last_third": {name: round(statistics.median(look[name] for look in last), 1) for name in looks[0]},
        "memory_mb_over_time": [round(look["memory_mb"]) for look in looks[:: max(1, len(looks) // 20)]],
        "peak": {name: round(max(look[name] for look in looks), 1) for name in looks[0]},
        "first_edit_alive": findings.is_alive,
        "problems": findings.problems[:20],
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=20)
    return {"median": round(statistics.median(seconds), 2), "p95": round(cuts[-1], 2), "most": round(max(seconds), 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each speed (default: 10)")
    parser.add_argument("--dragged", type=float, default=1.0, help="minutes of dragging (default: 1)")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--compare", type=int, default=400, help="frames that are compared (default: 400)")
    parser.add_argument("--speeds", nargs="+", default=["exact", "fast"])
    parser.add_argument("--out", type=Path, help="a JSON file to write the line to")
    args = parser.parse_args()
    rows = [soak(speed, args.minutes, args.dragged, args.people, args.compare) for speed in args.speeds]
    for row in rows:
        print(f"{row['speed']}: {row['edits']} edits, first frame {row['first_frame_s']}, rest {row['rest_s']}")
        print(f"  dragging in open edits, position to exact frame: one {row['drag_one_s']}, all {row['drag_all_s']}")
        differ = f"{row['frames_that_differ']} of {row['frames_compared']} frames differ"
        print(f"  {differ}, lowest {row['lowest_psnr_db']} dB")
        for name in row["peak"]:
            print(f"  {name}: {row['middle_third'][name]} -> {row['last_third'][name]}, at most {row['peak'][name]}")
        print(f"  the first edit is {'still open' if row['first_edit_alive'] else 'lost'} at the end")
        print(f"  problems: {row['problems'] or 'none'}")
    print_line(
        {"date": str(datetime.date.today()), "minutes": args.minutes, "people": args.people, "rows": rows}, args.out
    )


if __name__ == "__main__":
    main()
