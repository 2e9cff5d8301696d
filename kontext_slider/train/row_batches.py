"""Which rows of a data set a step trains on, and everything random about them: functions of the seed and of numbers.

A row's place in the run fixes its frame, noise level, noise and drop, whichever process takes it. So a resumed run is
the same run, and several processes together do what one would.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kontext_slider.errors import InvalidInput
from kontext_slider.train.config import SliderConfig
from kontext_slider.train.flow import SliderBatch, sample_sigmas
from kontext_slider.train.rows import EncodedRows


class RowBatches:
    """Batches of rows of one latent size, every row about once an epoch, in an order that the seed fixes.

    A size with fewer rows than a batch repeats them; what is left over waits for the next shuffle. `held_out` are rows
    that are not trained on.
    """

    def __init__(self, rows: EncodedRows, config: SliderConfig) -> None:
        self.rows, self.config, self.key = rows, config, rows.key
        self.held_out = held_out_rows(len(rows), config.held_out)
        self._groups: dict[tuple[int, ...], list[int]] = {}
        for row, shape in enumerate(rows.shapes()):
            if row not in self.held_out:
                self._groups.setdefault(shape, []).append(row)
        self._per_epoch = sum(max(1, len(rows) // config.batch_size) for rows in self._groups.values())
        self._epoch = lru_cache(maxsize=1)(self._shuffled)

    def numbers(self, step: int) -> list[int]:
        """Row numbers of the batch of a step."""
        epoch, number = divmod(step, self._per_epoch)
        return self._epoch(epoch)[number]

    def draw(self, step: int, part: int, num_parts: int) -> SliderBatch:
        """Part number `part` of the batch of a step."""
        size = self.config.batch_size // num_parts
        places = range(part * size, (part + 1) * size)
        numbers, first = self.numbers(step), step * self.config.batch_size
        rows = [draw_row(self.rows, numbers[place], self.config, first + place) for place in places]
        stacked = {name: torch.stack([row[name].float() for row in rows]) for name in rows[0]}
        return SliderBatch(**stacked, self_conditioned=self._is_self_conditioned(step))

    def _is_self_conditioned(self, step: int) -> bool:
        """The same for all parts of a batch."""
        share = self.config.self_conditioning
        return share > 0 and np.random.default_rng((self.config.seed, step, 1)).random() < share

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng, size = np.random.default_rng((self.config.seed, epoch)), self.config.batch_size
        batches = []
        for rows in self._groups.values():
            batches += np.resize(rng.permutation(rows), (max(1, len(rows) // size), size)).tolist()
        return [batches[number] for number in rng.permutation(len(batches))]


def held_out_rows(num_rows: int, count: int) -> list[int]:
    """`count` rows that are not trained on, evenly spread, so that data sorted by category shows several."""
    if count >= num_rows:
        raise InvalidInput(f"{count} of {num_rows} rows are held out: none is left to train on. Lower held_out.")
    return [(2 * k + 1) * num_rows // (2 * count) for k in range(count)]


def draw_row(rows: EncodedRows, row: int, config: SliderConfig, place: int) -> dict[str, Tensor]:
    """One row with its random parts. `place`: how many rows the run has trained on before it."""
    state = np.random.SeedSequence((config.seed, place)).generate_state(1)
    generator = torch.Generator().manual_seed(int(state[0]))
    strengths = rows.strengths(row)
    frame = int(torch.randint(len(strengths), (1,), generator=generator))
    near_one = config.timesteps == "near_one"
    sigma = sample_sigmas(1, generator) if near_one else 1 - torch.rand(1, generator=generator)
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
