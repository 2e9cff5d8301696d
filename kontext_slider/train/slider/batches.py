"""Which rows a step trains on, and everything random about them: functions of the seed and of numbers, no state.

A row's place in the run fixes its frame, noise level, noise and drop, whichever process takes it. So a resumed run is
the same run, and several processes together do what one would.

Legend: B rows, C latent channels, h and w latent rows and columns, T text tokens, E and P widths of text and of pooled
text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.train.flow import sample_sigmas
from kontext_slider.train.slider.cache import EncodedRows
from kontext_slider.train.slider.config import SliderConfig, Timesteps


@dataclass(frozen=True)
class SliderBatch:
    """Rows as the loss wants them."""

    source: Tensor  # (B, C, h, w)
    target: Tensor  # (B, C, h, w)
    strengths: Tensor  # (B,)
    text: Tensor  # (B, T, E)
    pooled: Tensor  # (B, P)
    sigmas: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)
    kept: Tensor  # (B,) 1, or 0 where the slider is dropped

    def to(self, device: torch.device) -> SliderBatch:
        """The same on a device."""
        return SliderBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class BatchPlan:
    """Batches of rows of one latent size, every row about once an epoch, in an order that the seed fixes.

    Args:
        shapes: the latent shape of every row that is trained on, by row number.
        batch_size: rows per batch. A size with fewer rows repeats them; what is left over waits for the next shuffle.
    """

    def __init__(self, shapes: dict[int, tuple[int, ...]], batch_size: int, seed: int) -> None:
        if not shapes:
            raise InvalidInput("No row is left to train on: give more data, or hold out fewer rows.")
        self._batch_size, self._seed = batch_size, seed
        self._groups: dict[tuple[int, ...], list[int]] = {}
        for row, shape in sorted(shapes.items()):
            self._groups.setdefault(shape, []).append(row)
        self._per_epoch = sum(max(1, len(rows) // batch_size) for rows in self._groups.values())
        self._epoch = lru_cache(maxsize=1)(self._shuffled)

    def rows(self, step: int) -> list[int]:
        """Row numbers of the batch of a step."""
        epoch, number = divmod(step, self._per_epoch)
        return self._epoch(epoch)[number]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng((self._seed, epoch))
        batches = []
        for rows in self._groups.values():
            count = max(1, len(rows) // self._batch_size)
            order = np.resize(rng.permutation(rows), (count, self._batch_size))
            batches += order.tolist()
        return [batches[number] for number in rng.permutation(len(batches))]


def held_out_rows(num_rows: int, count: int) -> list[int]:
    """`count` rows that are not trained on, evenly spread, so that data sorted by category shows several."""
    if count >= num_rows:
        raise InvalidInput(f"{count} of {num_rows} rows are held out: none is left to train on. Lower held_out.")
    return [(2 * k + 1) * num_rows // (2 * count) for k in range(count)]


def draw_batch(rows: EncodedRows, plan: BatchPlan, config: SliderConfig, step: int, part: range) -> SliderBatch:
    """The rows number `part` of a step's batch."""
    numbers = plan.rows(step)
    return _stacked([draw_row(rows, numbers[k], config, step * config.batch_size + k) for k in part])


def draw_row(rows: EncodedRows, row: int, config: SliderConfig, place: int) -> dict[str, Tensor]:
    """One row with its random parts. `place`: how many rows the run has trained on before it."""
    generator = generator_at(config.seed, place)
    strengths = rows.strengths(row)
    frame = int(torch.randint(len(strengths), (1,), generator=generator))
    sigma = _sigmas(config.timesteps, generator)
    kept = torch.rand(1, generator=generator) >= config.slider_drop
    text, pooled = rows.text(row)
    target = rows.latents(row, frame)
    return {
        "source": rows.source(row),
        "target": target,
        "strengths": strengths[frame],
        "text": text,
        "pooled": pooled,
        "sigmas": sigma[0],
        "noise": torch.randn(target.shape, generator=generator),
        "kept": kept[0].float(),
    }


def generator_at(seed: int, place: int) -> torch.Generator:
    """Random numbers of their own for every place of every run."""
    state = np.random.SeedSequence((seed, place)).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def part_of_batch(config: SliderConfig, micro: int, process: int, num_processes: int) -> range:
    """The rows of the batch that a process takes in accumulation step `micro`."""
    size = config.rows_per_part(num_processes)
    start = (micro * num_processes + process) * size
    return range(start, start + size)


def _sigmas(timesteps: Timesteps, generator: torch.Generator) -> Tensor:
    """One noise level in (0, 1]. (1,)"""
    if timesteps == "near_one":
        return sample_sigmas(1, generator)
    return 1 - torch.rand(1, generator=generator)


def _stacked(rows: Sequence[dict[str, Tensor]]) -> SliderBatch:
    """Rows of one latent size and text length as a batch."""
    return SliderBatch(**{name: torch.stack([row[name].float() for row in rows]) for name in rows[0]})
