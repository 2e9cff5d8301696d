"""`python -m kontext_slider.evaluate.pace`: measure how evenly the synthetic edits move, for `world`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kontext_slider.features import find_distance
from kontext_slider.metrics.distances import Distance, rms
from kontext_slider.world.cases import draw_case
from kontext_slider.world.edits import EDITS, SHAPES, family
from kontext_slider.world.paint import Picture
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


def measure_way(name: str, distances: Sequence[Distance], num_sources: int, size: int) -> NDArray[np.float64]:
    """The share of the whole way that an edit has gone at LEVELS of its parameter, (NUM_STEPS + 1,), mean over
    distances and sources."""
    ways = []
    for index in range(num_sources):
        frames = frames_of(name, index, size)
        for distance in distances:
            way = distance(frames)[0]
            ways.append(way / max(way[-1], 1e-9))
    return np.mean(ways, axis=0)


def even_pace(way: NDArray[np.float64], is_shape: bool) -> tuple[float, ...]:
    """The parameter at strengths 1/8 to 7/8 for which the way is even; half of that for shapes."""
    rising = np.maximum.accumulate(way) + 1e-6 * np.arange(len(way))
    parameters = np.interp(LEVELS[1:-1], rising / rising[-1], LEVELS)
    return tuple(np.round((parameters + LEVELS[1:-1]) / 2 if is_shape else parameters, 3).tolist())


def main(num_sources: int = 6, size: int = 256) -> None:
    """Print the table."""
    distances = (find_distance("pocket"), rms)
    ways: dict[str, list] = {}
    for name in EDITS:
        ways.setdefault(family(name), []).append(measure_way(name, distances, num_sources, size))
    for name, measured in ways.items():
        print(f'    "{name}": {even_pace(np.mean(measured, axis=0), name in SHAPES)},')


if __name__ == "__main__":
    main()
