"""A strength for every pixel, by four ways, against the drawn truth.

- transfer: `session.picture(strength_map)`, linear between the transfers of eleven strengths.
- mask: the picture of the map's highest strength s, laid over the photograph by the map's share of s.
- full mask: the same with the picture of strength 1, laid over by the map itself. It needs one frame for all maps.
- tokens: the model's own way. In every denoise step each image token takes the velocity of its own strength, between 0
  and s ("two") or linear between five strengths ("five"); the frame is carried to the photograph by one transfer.

PSNR in dB at twice the model's side, of held-out scenes whose edits have a truth for every pixel's strength. Offsets
of each token are not compared: offsets go to what all tokens share (text stream or time embedding).
Curvature: the truth's distance at 1/2 to the middle of source and full edit, as a share of the full edit's distance.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from line import print_line
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from kontext_slider import KontextSliderPipeline, SliderEngine
from kontext_slider.base import Conditioning
from kontext_slider.base_edit import BaseEdit
from kontext_slider.engine.sampling import denoise, plain_velocity
from kontext_slider.metrics import Picture, to_image, to_picture
from kontext_slider.metrics.distances import psnr, rms
from kontext_slider.metrics.statistics import interval, markdown
from kontext_slider.presets import load_pipeline
from kontext_slider.residual import residual_share
from kontext_slider.transfer import Transfer
from kontext_slider.world.cases import HELD_OUT_SEED
from kontext_slider.world.edits import EDITS, Edit, family
from kontext_slider.world.scene import draw, random_scene

SEEDS = {"choose": HELD_OUT_SEED + 50, "report": HELD_OUT_SEED + 51}
FACTOR = 2  # sides of the photograph over sides of the model's picture
HIGHEST = (1.0, 0.6)  # strength of the maps of a scene, in turns
NODES = (0.0, 0.25, 0.5, 0.75, 1.0)
WAYS = ("transfer", "mask", "full mask", "tokens, two", "tokens, five")
Map = NDArray[np.float32]  # (H, W)


def half_plane(rng: np.random.Generator, size: int) -> Map:
    """0 on one side of a line near the middle and 1 on the other, with a soft edge."""
    x, y = _coordinates(size)
    angle, softness = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25)
    return np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle) + rng.uniform(-0.15, 0.15)) / softness, 0, 1)


def radial(rng: np.random.Generator, size: int) -> Map:
    """1 at a centre, falling to 0 around it."""
    x, y = _coordinates(size)
    distance = np.hypot(x - rng.uniform(-0.2, 0.2), y - rng.uniform(-0.2, 0.2))
    return np.clip(1.2 - distance / rng.uniform(0.25, 0.6), 0, 1)


def painted(rng: np.random.Generator, size: int) -> Map:
    """A stroke of a soft brush."""
    x, y = _coordinates(size)
    centres = np.cumsum(rng.normal(0, 0.07, (24, 2)), axis=0) + rng.uniform(-0.2, 0.2, 2)
    radius = rng.uniform(0.1, 0.2)
    distance = np.min([np.hypot(x - u, y - v) for u, v in centres], axis=0)
    return np.clip(2 - 2 * distance / radius, 0, 1)


def smooth(rng: np.random.Generator, size: int) -> Map:
    """Smooth noise with a full range."""
    field = zoom(gaussian_filter(rng.random((32, 32)), rng.uniform(2, 4), mode="wrap"), size / 32, order=3)
    return (field - field.min()) / (field.max() - field.min())


SHAPES: dict[str, Callable[[np.random.Generator, int], Map]] = {
    "half-plane": half_plane,
    "radial": radial,
    "painted": painted,
    "smooth": smooth,
}


def _coordinates(size: int) -> tuple[NDArray, NDArray]:
    """x and y of every pixel from -1/2 to 1/2."""
    along = (np.arange(size) + 0.5) / size - 0.5
    return along[None].repeat(size, 0), along[:, None].repeat(size, 1)


class TokenBlend:
    """Frames whose image tokens have strengths of their own: velocities blended token by token, one noise."""

    def __init__(self, pipe: KontextSliderPipeline, source: Image.Image, instruction: str, seed: int = 0) -> None:
        self.pipe, self.edit = pipe, BaseEdit(pipe, source, instruction, seed)
        self.pixels = self.edit.base.to_pixels(source)
        side = 2 * pipe.vae_scale_factor
        self.tokens = source.height // side, source.width // side
        self.residual = self.pixels - self._decoded(torch.zeros(1, 1, *self.tokens), [0.0])

    def frame(self, strength_map: Map, nodes: Sequence[float]) -> Image.Image:
        """The model's frame, with the source residual of every pixel's strength where the model asks for it."""
        values = torch.from_numpy(np.ascontiguousarray(strength_map, dtype=np.float32))[None, None]
        pixels = self._decoded(interpolate(values, self.tokens, mode="area"), nodes)
        if self.pipe.defaults.anchor_source:
            pixels = pixels + residual_share(interpolate(values, pixels.shape[2:], mode="area")) * self.residual
        return self.edit.base.to_picture(pixels.clamp(0, 1))

    @torch.no_grad()
    def _decoded(self, strengths: Tensor, nodes: Sequence[float]) -> Tensor:
        """(1, 3, H, W) of strengths (1, 1, rows, columns) of the tokens."""
        pipe, edit = self.pipe, self.edit
        conditioning = Conditioning(edit.text, edit.source, edit.noise, edit.guidance)
        scheduler = edit.base.schedule(pipe.defaults.steps, edit.noise.latents.shape[1])
        velocity = plain_velocity(pipe, conditioning, scheduler.timesteps, len(nodes))
        weights = torch.from_numpy(hats(strengths.flatten().numpy(), nodes))[..., None]  # (nodes, tokens, 1)

        def blended(latents: Tensor, step: int) -> Tensor:
            return (weights * velocity(latents, step)).sum(0, keepdim=True)

        with pipe.slider_applied(nodes, edit.text.pooled):
            latents = denoise(blended, scheduler, edit.noise.latents, lambda: None)
        return edit.base.decode(latents, edit.size)


def hats(strengths: NDArray, nodes: Sequence[float]) -> NDArray[np.float32]:
    """How much each node weighs at each strength, (nodes, N): linear between neighbours."""
    return np.stack([np.interp(strengths, nodes, row) for row in np.eye(len(nodes))]).astype(np.float32)


def score_edit(
    engine: SliderEngine, edit: Edit, rng: np.random.Generator, first_shape: int, highest: float
) -> list[dict]:
    """Two maps, from 0 to `highest`, of one edit of a scene: dB of each of WAYS."""
    pipe, size = engine.pipe, FACTOR * engine.pipe.defaults.size
    scene = random_scene(rng)
    while not edit.targets(scene):
        scene = random_scene(rng)
    target = int(rng.choice(edit.targets(scene)))
    words = edit.instructions(scene.name_of(target) if edit.kinds else None)
    photograph = draw(scene, size, size)

    def truth(strength: float | Map) -> Picture:
        return edit.apply(scene, strength, size, size, target, unit=FACTOR)

    middle = np.float32(0.5) * (photograph + truth(1.0))
    curvature = rms([truth(0.5), middle])[0, 1] / rms([photograph, truth(1.0)])[0, 1]
    facts = {"edit": family(edit.name), "curvature": float(curvature)}
    rows = []
    with engine.open(to_image(photograph), str(rng.choice(words))) as session:
        blend = TokenBlend(pipe, session.source, session.instruction)
        for number in (first_shape, first_shape + 1):
            shape = list(SHAPES)[number % len(SHAPES)]
            strength_map = (highest * SHAPES[shape](rng, size)).astype(np.float32)
            wanted = truth(strength_map)
            share = (strength_map / highest)[..., None]
            full, at_highest = (to_picture(session.picture(s)) for s in (1.0, highest))
            pictures = {
                "transfer": to_picture(session.picture(strength_map)),
                "mask": photograph + share * (at_highest - photograph),
                "full mask": photograph + strength_map[..., None] * (full - photograph),
            }
            for name, nodes in (("two", (0.0, highest)), ("five", NODES)):
                transfer = Transfer.fit(session.source, blend.frame(strength_map, nodes))
                pictures[f"tokens, {name}"] = to_picture(transfer.apply(session.photo.image))
            scores = {way: psnr(pictures[way].astype(np.float32), wanted) for way in WAYS}
            rows.append(facts | {"shape": shape, "highest": highest} | scores)
    return rows


def table(rows: list[dict]) -> str:
    """Markdown: a row for each kind of edit, straight lines first, and one for all."""
    kinds = sorted({row["edit"] for row in rows}, key=lambda kind: mean(rows, kind, "curvature"))
    lines = []
    for kind in [*kinds, "all"]:
        low, high = margin(rows, kind, "transfer", "mask")
        best = margin(rows, kind, "tokens, five", "transfer")
        figures = [f"{mean(rows, kind, way):.1f}" for way in WAYS]
        margins = [f"{low:+.1f} to {high:+.1f}", f"{best[0]:+.1f} to {best[1]:+.1f}"]
        lines.append([kind, f"{mean(rows, kind, 'curvature'):.2f}", *figures, *margins])
    return markdown(["edit", "curvature", *WAYS, "transfer - mask", "tokens, five - transfer"], lines)


def _some(rows: list[dict], kind: str) -> list[dict]:
    return [row for row in rows if kind in ("all", row["edit"])]


def mean(rows: list[dict], kind: str, figure: str) -> float:
    return float(np.mean([row[figure] for row in _some(rows, kind)]))


def margin(rows: list[dict], kind: str, way: str, other: str) -> tuple[float, float]:
    """Interval at 95 % of the mean of `way` - `other`, by scenes: the two maps of a scene are one value."""
    differences = np.array([row[way] - row[other] for row in _some(rows, kind)])
    return interval(differences.reshape(-1, 2).mean(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2, help="of each kind of edit, two maps each")
    parser.add_argument("--seeds", choices=SEEDS, default="report")
    parser.add_argument("--kinds", nargs="*", help="only these kinds of edits")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    engine = SliderEngine(load_pipeline("pocket"))
    kinds: dict[str, list[Edit]] = {}
    for edit in EDITS.values():
        if edit.takes_map:
            kinds.setdefault(family(edit.name), []).append(edit)
    chosen = args.kinds or list(kinds)
    rows = []
    for number, kind in tqdm([(number, kind) for number in range(args.scenes) for kind in chosen], unit="scene"):
        place = list(kinds).index(kind)
        rng = np.random.default_rng((SEEDS[args.seeds], place, number))
        edit = kinds[kind][number % len(kinds[kind])]
        highest = HIGHEST[(number + number // 2) % 2]  # in four scenes each with all shapes
        rows += score_edit(engine, edit, rng, 2 * (number + place), highest)
    print(table(rows))
    report(rows, chosen, args)


def report(rows: list[dict], kinds: list[str], args: argparse.Namespace) -> None:
    """The JSON line."""
    pairs = (("transfer", "mask"), ("transfer", "full mask"), ("tokens, five", "transfer"), ("tokens, two", "transfer"))
    figures: dict[str, dict] = {}
    for kind in [*kinds, "all"]:
        figures[kind] = {way: round(mean(rows, kind, way), 2) for way in ("curvature", *WAYS)}
        intervals = {f"{a} - {b}": [round(end, 2) for end in margin(rows, kind, a, b)] for a, b in pairs}
        figures[kind]["intervals"] = intervals
    shapes = {shape: [row for row in rows if row["shape"] == shape] for shape in SHAPES}
    means = {shape: {way: round(mean(some, "all", way), 2) for way in WAYS} for shape, some in shapes.items() if some}
    date = datetime.date.today().isoformat()
    print_line({"maps": len(rows), "seeds": args.seeds, "kinds": figures, "shapes": means, "date": date}, args.out)


if __name__ == "__main__":
    main()
