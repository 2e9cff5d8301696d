"""What "fast" and "fastest" are off by: their frames against the exact ones, on held-out edits and on photographs.

A strip of eleven frames and ten more strengths between them, for each edit; and those ten again as interactive
frames of a session that has finished five coarse frames alone. Per edit: PSNR of all frames together, of the worst
frame, of the interactive ones, the change of delta_smooth (by the model's own features), and how many frames were
rendered. Prints a table and one line of JSON. delta_smooth has no upper bound, and a few edits make most of its mean:
so the change of the mean has an interval at 95 % (bootstrap over edits), and the median edit's change stands beside it.
"""

from __future__ import annotations

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
from line import print_line
from PIL import Image

from kontext_slider import SliderEngine
from kontext_slider.edit import SPEED_NAMES
from kontext_slider.engine.order import NUM_COARSE, ends_first
from kontext_slider.engine.speed import SPEEDS
from kontext_slider.engine.speed import preset as find_preset
from kontext_slider.evaluate.truth import find_photos
from kontext_slider.features import find_distance
from kontext_slider.images import read_image
from kontext_slider.metrics import to_image, to_picture
from kontext_slider.metrics.distances import psnr
from kontext_slider.metrics.statistics import interval
from kontext_slider.metrics.trajectory import second_order
from kontext_slider.presets import load_pipeline
from kontext_slider.world.cases import HELD_OUT_SEED, draw_cases

ROOT = Path(__file__).resolve().parents[1]
STRIP = 11
BETWEEN = tuple((k + 0.37) / (STRIP - 1) for k in range(STRIP - 1))


def edits(pipe, num: int, num_photo: int) -> list[tuple[str, Image.Image, str]]:
    """(kind, source, instruction): held-out scenes, and edits of the whole picture on photographs."""
    scenes = [
        ("scene", to_image(case.source), case.instruction)
        for case in draw_cases(num, pipe.defaults.size, HELD_OUT_SEED + 7)
    ]
    photos = [read_image(path) for path in find_photos(ROOT / "assets" / "photos")]
    words = [texts[0] for name, texts in pipe.known_instructions.items() if "{" not in name and len(texts) < 40]
    pairs = [(photos[k % len(photos)], words[k % len(words)]) for k in range(num_photo)]
    return [*scenes, *(("photo", photo, text) for photo, text in pairs)]


def engine_of(pipe, speed: str, preset: str) -> SliderEngine:
    """At the speed of a device that need not be here; a compiler changes roundings alone, and is left out."""
    engine = SliderEngine(pipe, speed=speed, compiled=False)
    if preset != "cpu":
        engine.speed = replace(find_preset(preset, speed), batch=1, compiled=False)
    return engine


def frames_of(engine: SliderEngine, source: Image.Image, instruction: str) -> tuple[list[np.ndarray], int]:
    """The strip, then the strengths between, and how many of them were rendered."""
    with engine.open(source, instruction) as session:
        strip = [frame for _, frame in session.sweep(STRIP)]
        frames = [to_picture(frame) for frame in [*strip, *(session.render(strength) for strength in BETWEEN)]]
        shortcuts = session.shortcuts
        return frames, len(frames) if shortcuts is None else len(shortcuts.rendered)


def interactive_frames(engine: SliderEngine, source: Image.Image, instruction: str) -> list[np.ndarray]:
    """The strengths between, where only the coarse frames are finished: of an engine that has seen no strip."""
    with engine.open(source, instruction) as session:
        list(session.frames(ends_first(STRIP)[:NUM_COARSE]))
        return [to_picture(session.render(strength)) for strength in BETWEEN]


def together(each: list[float]) -> float:
    """PSNR of several frames as one picture, from theirs."""
    return float(-10 * np.log10(np.mean([10 ** (-value / 10) for value in each])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--photos", type=int, default=30, help="edits of photographs")
    parser.add_argument("--steps", type=int, help="denoise steps (default: the model's own)")
    parser.add_argument("--preset", default="cpu", choices=SPEEDS, help="whose speeds (default: a CPU's)")
    parser.add_argument("--quick", action="store_true", help="six edits and four of photographs")
    parser.add_argument("--out", type=Path, help="also write the JSON line to this file")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    if args.steps:
        pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "steps": args.steps})
    cases = edits(pipe, *(6, 4) if args.quick else (args.edits, args.photos))
    distance = find_distance("pocket", pipe)
    engines = {name: engine_of(pipe, name, args.preset) for name in SPEED_NAMES}
    of_pointer = {name: engine_of(pipe, name, args.preset) for name in SPEED_NAMES[1:]}
    rows: dict[str, list[dict]] = {name: [] for name in SPEED_NAMES}
    for kind, source, instruction in cases:
        made = {name: frames_of(engine, source, instruction) for name, engine in engines.items()}
        exact, _ = made["exact"]
        for name, (frames, num_rendered) in made.items():
            each = list(map(psnr, frames, exact))
            interactive = each
            if name in of_pointer:
                interactive = list(map(psnr, interactive_frames(of_pointer[name], source, instruction), exact[STRIP:]))
            rows[name].append(
                {
                    "kind": kind,
                    "psnr": together(each),
                    "worst": min(each),
                    "delta_smooth": second_order(distance(frames[:STRIP])),
                    "rendered": num_rendered,
                    "interactive_psnr": together(interactive),
                    "interactive_worst": min(interactive),
                }
            )
    report(rows, args)


def report(rows: dict[str, list[dict]], args: argparse.Namespace) -> None:
    """A table and the JSON line."""
    line: dict = {"edits": len(rows["exact"]), "steps": args.steps, "preset": args.preset}
    line["date"] = datetime.date.today().isoformat()
    exact_smooth = np.array([row["delta_smooth"] for row in rows["exact"]])
    print("speed    kind    edits  PSNR mean (lowest edit)  worst frame  delta_smooth (change)  rendered of 21")
    for name in SPEED_NAMES[1:]:
        for kind in ("scene", "photo"):
            some = [row for row in rows[name] if row["kind"] == kind]
            mean = {key: float(np.mean([row[key] for row in some])) for key in ("psnr", "delta_smooth", "rendered")}
            lowest, worst = (min(row[key] for row in some) for key in ("psnr", "worst"))
            others = [row["delta_smooth"] for row in rows["exact"] if row["kind"] == kind]
            change = mean["delta_smooth"] / float(np.mean(others)) - 1
            print(
                f"{name:8s} {kind:6s} {len(some):6d}  {mean['psnr']:9.1f} ({lowest:.1f})         {worst:11.1f}"
                f"  {mean['delta_smooth']:12.4f} ({change:+.1%})  {mean['rendered']:14.1f}"
            )
            line |= {f"{name}_{kind}_psnr": round(mean["psnr"], 2), f"{name}_{kind}_lowest": round(lowest, 2)}
            line |= {
                f"{name}_{kind}_worst_frame": round(worst, 2),
                f"{name}_{kind}_rendered": round(mean["rendered"], 2),
            }
        change = np.array([row["delta_smooth"] for row in rows[name]]) - exact_smooth
        mean, low, high = np.array([change.mean(), *interval(change)]) / exact_smooth.mean()
        interactive = np.array([[row["interactive_psnr"], row["interactive_worst"]] for row in rows[name]])
        print(
            f"{name}: interactive frames after five {interactive[:, 0].mean():.1f} dB, "
            f"the lowest edit {interactive[:, 0].min():.1f}, the worst frame {interactive[:, 1].min():.1f}"
        )
        line |= {f"{name}_interactive_psnr": round(float(interactive[:, 0].mean()), 2)}
        line |= {f"{name}_interactive_lowest": round(float(interactive[:, 0].min()), 2)}
        line |= {f"{name}_interactive_worst_frame": round(float(interactive[:, 1].min()), 2)}
        moving = exact_smooth > 0
        median = float(np.median(change[moving] / exact_smooth[moving]))
        print(f"{name}: delta_smooth {mean:+.1%} (interval {low:+.1%} to {high:+.1%}), the median edit's {median:+.1%}")
        line |= {f"{name}_delta_smooth_change": round(float(mean), 4), f"{name}_median_change": round(median, 4)}
        line[f"{name}_delta_smooth_interval"] = [round(float(low), 4), round(float(high), 4)]
    print_line(line, args.out)


if __name__ == "__main__":
    main()
