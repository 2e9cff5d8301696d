"""Milliseconds of the page's canvas on a machine without a GPU: one draw of the shader, until its picture is there.

A real Chromium computes WebGL on the processor (SwiftShader), as it does where there is no GPU. A photograph of 2048
pixels, eleven transfers of a model picture's size; an edit of colours alone and one with detail, both drawn by
`world/picture_edits.py`; one strength for the picture, or a strength map. All ways are drawn in turns, in an order of
their own for every round; the figure is the median of the rounds. Putting the picture on the screen is not in it.
With a strength map the first draw at a new place (zoom, pan) enlarges the detail of all transfers, and stands alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from line import print_line
from PIL import Image

from kontext_slider.images import read_image, working_size
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.transfer import Transfer
from kontext_slider.world.edits import EDITS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.ui.browser import Browser, find_chromium  # noqa: E402
from tests.ui.view_page import ViewPage  # noqa: E402

KINDS = {"colours": "fog", "detail": "watercolour"}
CANVASES = ((900, 640), (1800, 1280))  # pixels: the page's, and the same on a screen with two pixels for one
WAYS = ("strength", "map", "map, new place")
PHOTOGRAPH_SIDE = 2048
FRAMES = 11
PHOTO = ROOT / "assets" / "photos" / "temple.jpg"


def transfers_of(edit: str, photograph: Image.Image, size: int) -> dict[float, Transfer]:
    """Of the drawn edit, at a model picture's size."""
    source = photograph.resize(working_size(photograph.size, size, 16), Image.Resampling.BOX)
    strengths = np.linspace(0, 1, FRAMES).round(3).tolist()
    frames = {strength: EDITS[edit].apply_to(to_picture(source), strength) for strength in strengths}
    return {strength: Transfer.fit(source, to_image(frame)) for strength, frame in frames.items()}


def measure(page: ViewPage, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by the canvas's size and the way: "strength", "map", or "map, new place": the first draw there."""
    rng = np.random.default_rng(0)
    shares = rng.integers(0, 256, (64, 96), dtype=np.uint8)
    times: dict[tuple[tuple[int, int], str], list[float]] = defaultdict(list)
    ways = [(canvas, way) for canvas in CANVASES for way in ("strength", "map")]
    for _ in range(rounds + 1):  # the first compiles
        for index in rng.permutation(len(ways)):
            canvas, way = ways[index]
            page.resize(*canvas)
            page.set_strength_map(shares if way == "map" else None)
            first, later = (f"view.drawMilliseconds({{ strength: {rng.uniform():.3f} }}, {draws})" for draws in (1, 3))
            times[canvas, way + ", new place"].append(page.run(first))
            times[canvas, way].append(page.run(later))
    medians = {key: round(float(np.median(values[1:])), 1) for key, values in times.items()}
    return {f"{w} x {h}": {way: medians[(w, h), way] for way in WAYS} for w, h in CANVASES}


def upload(page: ViewPage) -> float:
    """Milliseconds of one transfer: all are given to the view anew and a small picture is drawn, by their number."""
    page.resize(8, 8)
    page.set_strength_map(None)
    page.run("view.setTransfers([{ strength: 0, transfer: identityTransfer(1, 1) }]); 0")
    start = "const start = performance.now(); view.setTransfers(transfers); view.drawMilliseconds({ strength: 1 });"
    return round(page.run(f"(() => {{ {start} return performance.now() - start; }})()") / FRAMES, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256, help="side of the model's pictures, as a square (pocket: 256)")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit("There is no Chromium or Chrome on this machine: install one.")
    photo = read_image(PHOTO)
    photograph = photo.resize((PHOTOGRAPH_SIDE, round(PHOTOGRAPH_SIDE * photo.height / photo.width)))
    line: dict = {"load": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), "machine": platform.machine()}
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(chromium, Path(folder))
        try:
            for kind, edit in KINDS.items():
                browser.new_visitor()
                page = ViewPage(browser)
                page.set_photograph(photograph)
                transfers = transfers_of(edit, photograph, args.size)
                page.set_transfers(transfers)
                line[kind] = {
                    "kb": len(transfers[1.0].pack()) // 1000,
                    "ms": measure(page, args.rounds),
                    "upload_ms": upload(page),
                }
        finally:
            browser.close()
    report(line, args.out)


def report(line: dict, out: Path | None) -> None:
    """A table in Markdown, and the JSON line."""
    print("| canvas | edit | one strength, ms | strength map, ms | strength map at a new place, ms |")
    print("|---|---|---|---|---|")
    for width, height in CANVASES:
        for kind in KINDS:
            ms = line[kind]["ms"][f"{width} x {height}"]
            print(f"| {width} x {height} | {kind} | " + " | ".join(f"{ms[way]:.0f}" for way in WAYS) + " |")
    print_line({**line, "load_after": round(os.getloadavg()[0], 2), "date": str(datetime.date.today())}, out)


if __name__ == "__main__":
    main()
