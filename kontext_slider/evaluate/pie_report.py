"""A slider on PIE-Bench: real pictures, no truth between the ends; smoothness, direction, identity, background.

Legend: y_0 the source at the model's working size, y_1..y_N frames at strengths i/N, all (H, W, 3) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from kontext_slider.encoding import coded
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.base_run import Method
from kontext_slider.evaluate.compare import STRENGTHS
from kontext_slider.evaluate.pie_bench import PieCase, read_pie_bench
from kontext_slider.evaluate.plots import line_plot
from kontext_slider.evaluate.report import OURS, write_csv
from kontext_slider.images import working_image
from kontext_slider.metrics import to_picture, trajectory
from kontext_slider.metrics.distances import Distance, psnr
from kontext_slider.metrics.networks import TextImageEmbedder, clip_direction, identity_curve
from kontext_slider.metrics.statistics import half_widths, means, table
from kontext_slider.metrics.trajectory import Smoothness
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.world.paint import Picture


@dataclass(frozen=True)
class PieMeasures(Smoothness):
    """One method on one edit."""

    clip_dir: float | None  # None without CLIP
    background_psnr: float | None  # dB to the source outside the mask, mean over y_1..y_N; None without an outside
    background_codec: float | None  # dB that the codec alone leaves there


@dataclass(frozen=True)
class PieResult:
    """With what its row and its curves are made of."""

    id: str
    kind: str
    measures: PieMeasures
    progress: tuple[float, ...]  # distance to y_0 as a share of y_N's
    identity: tuple[float, ...] | None  # cosine to y_0; None without CLIP


def choose_cases(folder: Path, num: int | None) -> Iterator[PieCase]:
    """All cases of the paper's types, or `num` of them, spread over the types as they lie. Raises InvalidInput for a
    folder without any."""
    count = sum(1 for _ in read_pie_bench(folder))
    if not count:
        raise InvalidInput(f"{folder} has none of the edits that the paper measures on. Download all of PIE-Bench.")
    chosen = {k * count // num for k in range(num)} if num and num < count else set(range(count))
    return (case for number, case in enumerate(read_pie_bench(folder)) if number in chosen)


def measure_pie_bench(
    pipe: KontextSliderPipeline,
    cases: Iterable[PieCase],
    methods: Mapping[str, Method],
    distance: Distance,
    embedder: TextImageEmbedder | None,
    seed: int,
) -> dict[str, list[PieResult]]:
    """All methods on all cases, at the model's working size; `seed` draws the noise."""
    pipe.set_progress_bar_config(disable=True)
    results: dict[str, list[PieResult]] = {name: [] for name in methods}
    for case in tqdm(cases, unit="edit"):
        image = working_image(case.image, pipe.defaults.size, 2 * pipe.vae_scale_factor)
        source = to_picture(image)
        background = ~resized_mask(case.mask, image.size)
        codec = outside_psnr([coded(pipe, source)], source, background)
        for name, method in methods.items():
            sweep = [source, *method(pipe, image, case.instruction, STRENGTHS[1:], seed)]
            results[name].append(measure_pie_sweep(case, sweep, background, codec, distance, embedder))
    return results


def measure_pie_sweep(
    case: PieCase,
    sweep: Sequence[Picture],
    background: NDArray[np.bool_],
    codec: float | None,
    distance: Distance,
    embedder: TextImageEmbedder | None,
) -> PieResult:
    """Measures of y_0..y_N. `codec`: what the codec alone leaves of the background, dB."""
    matrix = distance(sweep)
    captions = (case.source_prompt, case.target_prompt)
    measures = PieMeasures(
        **asdict(trajectory.smoothness(matrix)),
        clip_dir=clip_direction(embedder, sweep, captions) if embedder else None,
        background_psnr=outside_psnr(sweep[1:], sweep[0], background),
        background_codec=codec,
    )
    identity = tuple(identity_curve(embedder, sweep).tolist()) if embedder else None
    return PieResult(case.id, case.kind, measures, tuple(trajectory.progress(matrix).tolist()), identity)


def outside_psnr(frames: Sequence[Picture], source: Picture, background: NDArray[np.bool_]) -> float | None:
    """Mean dB of frames to the source where the edit is not; None where less than a hundredth is left."""
    if background.mean() < 0.01:
        return None
    return float(np.mean([psnr(frame[background], source[background]) for frame in frames]))


def resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(512, 512) -> (H, W) for a size of (W, H): True wherever any of it was, so that its rim is no background."""
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(grown) > 0


def pie_figures(results: Mapping[str, Sequence[PieResult]], distance: str) -> dict[str, Any]:
    """The means of ours, flat, with its identity curve, and of the others under `rivals`."""
    flat = {name: means([row.measures for row in rows]) for name, rows in results.items()}
    ours = results[OURS]
    return {
        **flat.pop(OURS),
        "identity": curve_of([row.identity for row in ours]),
        "distance": distance,
        "num_edits": len(ours),
        "intervals": half_widths([row.measures for row in ours]),
        "rivals": flat,
    }


def curve_of(curves: Sequence[tuple[float, ...] | None]) -> list[float] | None:
    """The mean curve, None where there is none."""
    known = [curve for curve in curves if curve is not None]
    return [round(float(value), 4) for value in np.mean(known, axis=0)] if known else None


def write_pie_report(results: Mapping[str, Sequence[PieResult]], folder: Path, command: str, distance: str) -> None:
    """`pie-bench.md`, `pie-bench.csv`, a plot of the way gone and, with CLIP, one of the identity."""
    folder.mkdir(parents=True, exist_ok=True)
    ways = {name: np.mean([row.progress for row in rows], axis=0) for name, rows in results.items()}
    line_plot(ways, f"Distance to the source ({distance}), as a share of the last frame's", {OURS: 4}).save(
        folder / "pie-distance.png"
    )
    plots = ["pie-distance.png"]
    stays = {name: curve for name, rows in results.items() if (curve := curve_of([row.identity for row in rows]))}
    if stays:
        plots.append("pie-identity.png")
        line_plot(stays, "CLIP similarity to the source", {OURS: 4}).save(folder / plots[-1])
    rows = [
        {"method": name, "id": row.id, "kind": row.kind, **asdict(row.measures)}
        for name, found in results.items()
        for row in found
    ]
    write_csv(folder / "pie-bench.csv", rows)
    (folder / "pie-bench.md").write_text(_page(results, command, distance, plots), encoding="utf-8")


def _page(results: Mapping[str, Sequence[PieResult]], command: str, distance: str, plots: Sequence[str]) -> str:
    ours = results[OURS]
    kinds = {kind: [row.measures for row in ours if row.kind == kind] for kind in dict.fromkeys(r.kind for r in ours)}
    parts = [
        "# Sliders on PIE-Bench",
        f"`{command}`",
        f"{len(ours)} edits; means with half the width of their bootstrap intervals at 95 %. Distance: {distance}.",
        table({name: [row.measures for row in rows] for name, rows in results.items()}),
        "## Ours, type by type",
        table(kinds).replace("| method |", "| type |"),
        *(f"![{name}]({name})" for name in plots),
    ]
    return "\n\n".join(parts) + "\n"
