"""Measure how evenly the synthetic edits move: prints the reparametrisation of every family, for `world/edits.py`.

`python benchmarks/measure_reparametrisation.py [EDIT ...]`, of all edits where none is named.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kontext_slider.features import find_distance
from kontext_slider.metrics import Picture
from kontext_slider.metrics.distances import Distance, rms
from kontext_slider.world.cases import draw_case
from kontext_slider.world.edits import EDITS, SHAPES, family
from kontext_slider.world.pictures import crop_photograph

NUM_STEPS = 8
SEED = 555
LEVELS = np.linspace(0, 1, NUM_STEPS + 1)


def frames_of(name: str, index: int, size: int) -> list[Picture]:
    """The edit at LEVELS of its parameter, on source number `index`: a held-out scene or, for every second one of an
    edit that any picture can have, a crop of a photograph that training crops as well."""
    edit, rng = EDITS[name], np.random.default_rng((SEED, list(EDITS).index(name), index))
    if edit.is_global and index % 2:
        photograph = crop_photograph(rng, size, size)
        return [edit.apply_to(photograph, level, reparametrised=False) for level in LEVELS]
    case = draw_case(edit, rng, size, reparametrised=False)
    return [case.truth(level) for level in LEVELS]


def measure_progress(name: str, distances: Sequence[Distance], num_sources: int, size: int) -> NDArray[np.float64]:
    """Distance to the source as a share of the whole edit's, at LEVELS of the edit's parameter, (NUM_STEPS + 1,), mean
    over distances and sources."""
    shares = []
    for index in range(num_sources):
        frames = frames_of(name, index, size)
        for distance in distances:
            row = distance(frames)[0]
            shares.append(row / max(row[-1], 1e-9))
    return np.mean(shares, axis=0)


def even_parameters(progress: NDArray[np.float64], is_shape: bool) -> tuple[float, ...]:
    """The parameter at strengths 1/8 to 7/8 for which the progress is even; half of that for shapes."""
    rising = np.maximum.accumulate(progress) + 1e-6 * np.arange(len(progress))
    parameters = np.interp(LEVELS[1:-1], rising / rising[-1], LEVELS)
    return tuple(np.round((parameters + LEVELS[1:-1]) / 2 if is_shape else parameters, 3).tolist())


def main(names: Sequence[str] = (), num_sources: int = 6, size: int = 256) -> None:
    """Print the rows of these edits, or of all."""
    distances = (find_distance("pocket"), rms)
    measured: dict[str, list] = {}
    for name in names or EDITS:
        measured.setdefault(family(name), []).append(measure_progress(name, distances, num_sources, size))
    for name, progress in measured.items():
        print(f'    "{name}": {even_parameters(np.mean(progress, axis=0), name in SHAPES)},')


if __name__ == "__main__":
    main(sys.argv[1:])
