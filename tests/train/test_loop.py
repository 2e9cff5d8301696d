"""The loop that can be killed: the same weights, one log, whole files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kontext_slider.errors import CheckpointError
from kontext_slider.train.loop import CHECKPOINT, Schedule, make_optimizers, train


class Killed(Exception):
    pass


@pytest.mark.parametrize("muon", [None, 1e-2])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, muon):
    """A resume that forgets the optimiser or the place in the data gives other weights."""

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(6, 6)]), "out": nn.Linear(6, 2)})

    def run(folder: Path, kill_at: int | None) -> nn.Module:
        module = fresh()

        def loss_at(step: int) -> torch.Tensor:
            if step == kill_at:
                raise Killed
            x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
            return module["out"](module["blocks"][0](x)).square().mean()

        schedule = Schedule(steps=12, warmup=3, checkpoint_every=4)
        train([module], make_optimizers([module], 1e-2, muon), loss_at, schedule, folder, seed=0)
        return module

    whole = run(tmp_path / "whole", None)
    with pytest.raises(Killed):
        run(tmp_path / "killed", 10)
    resumed = run(tmp_path / "killed", None)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_log_says_nothing_twice(tmp_path):
    """10 20 30 10 20 30 40: a curve that goes back on itself, copied into the model's folder."""

    def run(kill_at: int | None) -> None:
        module = nn.Linear(2, 1)

        def loss_at(step: int) -> torch.Tensor:
            if step == kill_at:
                raise Killed
            return module(torch.ones(2)).square().mean()

        train([module], make_optimizers([module], 1e-2), loss_at, Schedule(60, 3, 1.0, 40), tmp_path, seed=0)

    for kill_at in (37, 57):
        with pytest.raises(Killed):
            run(kill_at)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 60, "lo')
    run(None)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30, 40, 50, 60]


def test_a_torn_checkpoint_is_a_sentence(tmp_path):
    """A disk that lost the end of a file, and a traceback of the archive reader's."""
    (tmp_path / CHECKPOINT).write_bytes(b"PK")
    module = nn.Linear(2, 1)
    with pytest.raises(CheckpointError, match="Delete it"):
        train([module], make_optimizers([module], 1e-2), module, Schedule(1), tmp_path, seed=0)


def test_learning_rate_warms_up_and_ends_at_zero():
    """A schedule off by one would divide by zero or stop at a high rate."""
    schedule = Schedule(steps=1000, warmup=100)
    factors = [schedule.factor(step) for step in range(1000)]
    assert factors[0] == 0.01 and max(factors) == 1.0 and 0 < factors[-1] < 0.002
    assert np.argmax(factors) == 99
