"""The page's brush on simulated strokes: how near is what it covers to the object that was meant?

A stroke covers an object by round dabs whose middles lie inside it, some right beside its border, so that they spill
over it; some hands shake. The page's own JavaScript (`kontext_slider/ui/edge_aware.js`) runs in node, without and with
"Edges". Objects, skies and grounds of synthetic scenes, and photographs pasted into the objects' outlines over other
photographs; all blurred, grainy and compressed as a camera's. Figures: error, the sum of differences to the object's
mask over its area; IoU; holes, how much of the object's inside is lost where the plain stroke covers it.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from line import print_line
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter

from kontext_slider.metrics import Picture
from kontext_slider.metrics.statistics import interval, markdown
from kontext_slider.world.cases import HELD_OUT_SEED
from kontext_slider.world.paint import grid
from kontext_slider.world.pictures import crop_photograph
from kontext_slider.world.scene import Scene, draw, draw_mask, random_scene
from kontext_slider.world.things import silhouette

SEEDS = {"choose": HELD_OUT_SEED + 40, "report": HELD_OUT_SEED + 41}
WIDTH, HEIGHT = 448, 336
KINDS = ("object", "object", "object", "pasted", "pasted", "sky", "ground")  # in turns
LEAST_AREA = 900  # pixels of an object that somebody would paint
Mask = NDArray[np.float32]  # (H, W) in [0, 1]


@dataclass(frozen=True)
class Stroke:
    """A picture, the mask of what is meant, and dabs (x, y, radius) in pixels."""

    kind: str
    picture: Image.Image
    mask: Mask
    dabs: list[tuple[float, float, float]]


def draw_stroke(rng: np.random.Generator, kind: str) -> Stroke:
    """A stroke over something of a new scene."""
    while True:
        scene = random_scene(rng, aspect=WIDTH / HEIGHT)
        place = int(rng.integers(len(scene.things)))
        if kind == "pasted":
            thing = scene.things[place]
            scene, place = replace(scene, things=(replace(thing, size=thing.size * rng.uniform(1.2, 2.2), v=0.9),)), 0
        mask = reduce_mask(mask_of(kind, scene, place))
        if (mask > 0.5).sum() >= LEAST_AREA:
            break
    picture = draw(scene, WIDTH, HEIGHT)
    if kind == "pasted":
        over, under = (crop_photograph(rng, WIDTH, HEIGHT) for _ in range(2))
        picture = under + (over - under) * mask[..., None]
    return Stroke(kind, as_photographed(rng, picture), mask, dabs_over(rng, mask > 0.5, kind in ("sky", "ground")))


def mask_of(kind: str, scene: Scene, place: int) -> NDArray[np.bool_]:
    """Where it is, at twice the size."""
    width, height = 2 * WIDTH, 2 * HEIGHT
    if kind == "sky":  # what changes with the sky's colour; the sun and clouds in it belong to it
        hidden = replace(scene, sun=(*scene.sun[:2], 0.001))
        dark, bright = (draw(replace(hidden, sky_top=(level,) * 3), width, height) for level in (0.0, 1.0))
        return binary_fill_holes(np.abs(bright - dark).max(-1) > 0.002)
    if kind == "ground":
        u, v, pixel = grid(width, height)
        return (v > scene.horizon) & ~np.any([silhouette(thing, u, v, pixel) for thing in scene.things], axis=0)
    return draw_mask(scene, place, width, height)


def reduce_mask(mask: NDArray[np.bool_]) -> Mask:
    return mask.reshape(HEIGHT, 2, WIDTH, 2).mean((1, 3)).astype(np.float32)


def as_photographed(rng: np.random.Generator, picture: Picture) -> Image.Image:
    """Blur, grain, JPEG."""
    blurred = gaussian_filter(picture, (*[rng.uniform(0.3, 0.9)] * 2, 0))
    grainy = np.clip(blurred + rng.normal(0, rng.uniform(0.003, 0.015), picture.shape), 0, 1)
    file = io.BytesIO()
    Image.fromarray((255 * grainy + 0.5).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(80, 95)))
    return Image.open(file).convert("RGBA")


def dabs_over(rng: np.random.Generator, inside: NDArray[np.bool_], is_large: bool) -> list[tuple[float, float, float]]:
    """Dabs all over it and along its border, their middles at least a depth inside, moved by a hand that may shake."""
    depths = distance_transform_edt(inside)
    deepest = depths.max()
    radius = rng.uniform(16, 60) if is_large else np.clip(rng.uniform(0.5, 1.3) * deepest + rng.uniform(2, 8), 5, 60)
    depth = min(rng.uniform(0.15, 0.8) * radius, 0.8 * deepest)
    step = max(2.0, 0.35 * radius)
    rows, columns = np.mgrid[rng.uniform(0, step) : HEIGHT : step, rng.uniform(0, step) : WIDTH : step].astype(int)
    lattice = np.stack([rows.ravel(), columns.ravel()], axis=1)
    over = lattice[depths[tuple(lattice.T)] >= depth]
    along = np.argwhere((depths >= depth) & (depths < depth + 1.5))[:: max(1, int(1.5 * step))]
    shake = rng.choice([0, 0, 0.1, 0.2]) * radius
    places = np.concatenate([over, along]) + shake * rng.normal(size=(len(over) + len(along), 2))
    places = np.clip(places, 0, (HEIGHT - 1, WIDTH - 1)) + 0.5
    return [(float(x), float(y), float(radius)) for y, x in places]


def cover(strokes: Sequence[Stroke], constants: Sequence[str]) -> tuple[NDArray, dict[str, float]]:
    """What the page covers, (strokes, 2, H, W) in [0, 1], without and with edges; and its time for a dab."""
    with tempfile.TemporaryDirectory() as folder:
        cases = {"width": WIDTH, "height": HEIGHT, "cases": [stroke.dabs for stroke in strokes]}
        Path(folder, "strokes.json").write_text(json.dumps(cases))
        Path(folder, "pictures.bin").write_bytes(b"".join(stroke.picture.tobytes() for stroke in strokes))
        script = Path(__file__).with_name("brush_strokes.mjs")
        command = ["node", str(script), folder, *constants]
        times = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        maps = np.frombuffer(Path(folder, "coverage.bin").read_bytes(), np.uint8)
    return maps.reshape(len(strokes), 2, HEIGHT, WIDTH).astype(np.float32) / 255, times


def score(covered: Mask, plain: Mask, mask: Mask) -> dict[str, float]:
    """Error, IoU and holes of what is covered."""
    meant, inside = mask > 0.5, (mask > 0.99) & (plain > 0.95)
    both, either = (covered > 0.5) & meant, (covered > 0.5) | meant
    return {
        "error": float(np.abs(covered - mask).sum() / mask.sum()),
        "iou": float(both.sum() / either.sum()),
        "holes": float((1 - covered[inside]).mean()) if inside.any() else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strokes", type=int, default=210)
    parser.add_argument("--seeds", choices=SEEDS, default="report")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="constants of edge_aware.js")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    kinds = [KINDS[number % len(KINDS)] for number in range(args.strokes)]
    strokes = [draw_stroke(np.random.default_rng((SEEDS[args.seeds], n)), kind) for n, kind in enumerate(kinds)]
    maps, times = cover(strokes, args.set)
    plain, edges = (
        [score(pair[way], pair[0], stroke.mask) for pair, stroke in zip(maps, strokes, strict=True)] for way in (0, 1)
    )
    report(kinds, plain, edges, times, args)


def report(kinds: list[str], plain: list[dict], edges: list[dict], times: dict, args: argparse.Namespace) -> None:
    """A table and the JSON line."""
    names, lines = list(plain[0]), []
    figures: dict[str, dict] = {}
    for kind in dict.fromkeys([*kinds, "all"]):
        own = [number for number, each in enumerate(kinds) if kind in (each, "all")]
        means = {name: [float(np.mean([rows[n][name] for n in own])) for rows in (plain, edges)] for name in names}
        gain = interval(np.array([plain[n]["error"] - edges[n]["error"] for n in own]))
        worse = sum(edges[n]["error"] > plain[n]["error"] + 1e-4 for n in own)
        lines.append([kind, len(own), *(f"{a:.3f} -> {b:.3f}" for a, b in means.values()), worse])
        figures[kind] = {name: [round(each, 4) for each in pair] for name, pair in means.items()}
        figures[kind] |= {"gain_interval": [round(end, 4) for end in gain], "strokes": len(own), "worse": worse}
    print(markdown(["what", "strokes", *names, "worse"], lines))
    date = datetime.date.today().isoformat()
    print_line({"seeds": args.seeds, "constants": args.set, "kinds": figures, **times, "date": date}, args.out)


if __name__ == "__main__":
    main()
