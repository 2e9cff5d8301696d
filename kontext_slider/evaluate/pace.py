"""`python -m kontext_slider.evaluate.pace`: measure how evenly the drawn edits move, for `train/pocket/pace.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kontext_slider.evaluate.distance import Distance, find_distance
from kontext_slider.evaluate.truth import draw_case
from kontext_slider.train.pocket.edits import EDITS
from kontext_slider.train.pocket.pace import SHAPES, family

NUM_STEPS = 8
SEED = 555
LEVELS = np.linspace(0, 1, NUM_STEPS + 1)


def measure_way(name: str, distance: Distance, num_scenes: int, size: int) -> NDArray[np.float64]:
    """The share of the whole way that an edit has gone at even values of its parameter, (NUM_STEPS + 1,), mean over
    scenes."""
    ways = []
    for index in range(num_scenes):
        rng = np.random.default_rng((SEED, list(EDITS).index(name), index))
        case = draw_case(EDITS[name], rng, size, paced=False)
        way = distance([case.truth(level) for level in LEVELS])[0]
        ways.append(way / max(way[-1], 1e-9))
    return np.mean(ways, axis=0)


def even_pace(way: NDArray[np.float64], is_shape: bool) -> tuple[float, ...]:
    """The parameter at strengths 1/8 to 7/8 for which the way is even; half of that for shapes."""
    rising = np.maximum.accumulate(way) + 1e-6 * np.arange(len(way))
    parameters = np.interp(LEVELS[1:-1], rising / rising[-1], LEVELS)
    return tuple(np.round((parameters + LEVELS[1:-1]) / 2 if is_shape else parameters, 3).tolist())


def main(num_scenes: int = 6, size: int = 256) -> None:
    """Print the table."""
    distance = find_distance("pocket")
    ways: dict[str, list] = {}
    for name in EDITS:
        ways.setdefault(family(name), []).append(measure_way(name, distance, num_scenes, size))
    for name, measured in ways.items():
        print(f'    "{name}": {even_pace(np.mean(measured, axis=0), name in SHAPES)},')


if __name__ == "__main__":
    main()
