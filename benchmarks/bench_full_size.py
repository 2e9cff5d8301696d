"""Edits at full size against the drawn truth, at four times the model's side; seconds and memory of large photographs.

Quality, in PSNR (dB) at strength 1: the model's frame against the truth at the model's size; the frame enlarged by
bicubic interpolation and the transfer (`session.picture`), both against the truth at four times the side. Strokes and
pixels of stylised edits grow with the picture. Scenes are held out and drawn at full size. The photographs in `assets`
are 451 to 640 pixels wide and are enlarged to that size first, so their truth has no finer detail than that.

Speed and memory, each in a process of its own: from a finished frame, in a session that has made no picture yet, to a
written JPEG. Rules and constants of the transfer were chosen on other scenes, photographs and seeds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from line import print_line
from PIL import Image
from tqdm import tqdm

from kontext_slider import SliderEngine
from kontext_slider.evaluate.truth import find_photos
from kontext_slider.images import read_image, working_size
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.picture_file import save_picture
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED
from kontext_slider.world.edits import EDITS, PICTURE_EDITS
from kontext_slider.world.paint import Picture
from kontext_slider.world.scene import draw, random_scene

ROOT = Path(__file__).resolve().parents[1]
FACTOR = 4  # sides of the photograph over sides of the model's picture
SEED = HELD_OUT_SEED + 22  # of scenes; nothing was chosen on them
MEGAPIXELS = {12: (4000, 3000), 48: (8000, 6000), 100: (12240, 8160)}


@dataclass(frozen=True)
class Case:
    """A photograph at full size, an instruction, and the picture that the full edit should give."""

    kind: str
    edit: str
    instruction: str
    photograph: Picture
    truth: Picture


def scene_cases(num: int, size: int) -> Iterator[Case]:
    """Held-out scenes, every edit of the world in turn."""
    for number in range(num):
        edit = list(EDITS.values())[number % len(EDITS)]
        rng = np.random.default_rng((SEED, number))
        scene = random_scene(rng)
        while not edit.targets(scene):
            scene = random_scene(rng)
        target = int(rng.choice(edit.targets(scene)))
        words = edit.instructions(scene.name_of(target) if edit.kinds else None)
        truth = edit.apply(scene, 1.0, size, size, target, unit=FACTOR)
        yield Case("scene", edit.name, words[rng.integers(len(words))], draw(scene, size, size), truth)


def photo_cases(num: int, size: int, multiple: int) -> Iterator[Case]:
    """Edits of the whole picture on photographs, all of both in turn."""
    photos = find_photos(ROOT / "assets" / "photos")
    for number in range(num):
        edit = PICTURE_EDITS[number % len(PICTURE_EDITS)]
        image = read_image(photos[number % len(photos)])
        width, height = working_size(image.size, size, multiple)
        full = to_picture(image.resize((FACTOR * width, FACTOR * height), Image.Resampling.LANCZOS))
        words = edit.instructions()
        truth = edit.apply_to(full, 1.0, unit=FACTOR)
        yield Case("photo", edit.name, words[number % len(words)], full, truth)


def score(engine: SliderEngine, case: Case) -> dict[str, float]:
    """PSNR of the three ways, and the share of the edit that the enlarged frame carries."""
    with engine.open(to_image(case.photograph), case.instruction) as session:
        frame, picture = session.render(1.0), session.picture(1.0)
        warned = "warning" in session.full_size_facts(1.0)
    size = picture.size
    small = to_image(case.truth).resize(frame.size, Image.Resampling.BOX)
    return {
        "frame": psnr(to_picture(frame), to_picture(small)),
        "bicubic": psnr(to_picture(frame.resize(size, Image.Resampling.BICUBIC)), case.truth),
        "transfer": psnr(to_picture(picture), case.truth),
        "warned": float(warned),
    }


def measure_large(megapixels: int) -> dict[str, float]:
    """Seconds from a finished frame to a written JPEG and the peak memory of this process, in MB."""
    engine = SliderEngine(load_pipeline("pocket"))
    photograph = read_image(ROOT / "assets" / "photos" / "temple.jpg").resize(MEGAPIXELS[megapixels])
    with engine.open(photograph, "make it snow") as session, tempfile.TemporaryDirectory() as folder:
        del photograph
        session.render(1.0)
        start = time.perf_counter()
        picture = session.picture(1.0)
        save_picture(picture, Path(folder) / "picture.jpg", session.full_size_facts(1.0), photo=session.photo)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_own_process(megapixels: int) -> dict[str, float]:
    """`measure_large` in a new process, so that nothing before it counts."""
    command = [sys.executable, __file__, "--only-large", str(megapixels)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def table(rows: list[tuple[Case, dict[str, float]]]) -> Iterable[str]:
    """Markdown: a row for each kind and edit, the lowest margins last."""
    yield "| edit | cases | frame at its own size | bicubic | transfer | lowest transfer - bicubic | warned |"
    yield "|---|---|---|---|---|---|---|"
    for kind in ("scene", "photo"):
        mine = [(case, values) for case, values in rows if case.kind == kind]
        for name in [*dict.fromkeys(case.edit for case, _ in mine), "all"]:
            some = [values for case, values in mine if name in ("all", case.edit)]
            means = " | ".join(
                f"{np.mean([each[key] for each in some]):.1f}" for key in ("frame", "bicubic", "transfer")
            )
            lowest = min(each["transfer"] - each["bicubic"] for each in some)
            warned = sum(each["warned"] for each in some)
            yield f"| {kind} {name} | {len(some)} | {means} | {lowest:+.2f} | {warned:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=126)
    parser.add_argument("--photos", type=int, default=48, help="edits of photographs")
    parser.add_argument("--quick", action="store_true", help="six scenes, four photographs, 12 megapixels alone")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    parser.add_argument("--only-large", type=int, choices=MEGAPIXELS, help="one photograph of so many megapixels")
    args = parser.parse_args()
    if args.only_large:
        print(json.dumps(measure_large(args.only_large)))
        return
    large = {size: in_own_process(size) for size in ([12] if args.quick else MEGAPIXELS)}
    pipe = load_pipeline("pocket")
    engine, multiple = SliderEngine(pipe), 2 * pipe.vae_scale_factor
    num_scenes, num_photos = (6, 4) if args.quick else (args.scenes, args.photos)
    cases = [*scene_cases(num_scenes, FACTOR * pipe.defaults.size)]
    cases = [*cases, *photo_cases(num_photos, pipe.defaults.size, multiple)]
    rows = [(case, score(engine, case)) for case in tqdm(cases, unit="edit")]
    print("\n".join(table(rows)))
    report(rows, large, args.out)


def report(rows: list[tuple[Case, dict[str, float]]], large: dict[int, dict[str, float]], out: Path | None) -> None:
    """The JSON line."""
    line: dict[str, float] = {"edits": len(rows)}
    for kind in ("", "scene_", "photo_"):
        some = [values for case, values in rows if case.kind in kind or not kind]
        line |= {
            f"{kind}{key}_psnr": round(float(np.mean([v[key] for v in some])), 2) for key in some[0] if key != "warned"
        }
    margins = np.array([values["transfer"] - values["bicubic"] for _, values in rows])
    line["lowest_margin_over_bicubic"] = round(float(margins.min()), 2)
    line["edits_below_bicubic_by_0.3"] = int((margins < -0.3).sum())
    for megapixels, figures in large.items():
        line[f"seconds_{megapixels}mp"] = round(figures["seconds"], 2)
        line[f"peak_mb_{megapixels}mp"] = round(figures["peak_mb"])
    line["megapixels_per_second"] = round(12 / large[12]["seconds"], 1)
    print_line(line, out)


if __name__ == "__main__":
    main()
