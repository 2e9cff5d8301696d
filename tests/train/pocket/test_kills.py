"""Real kills: a process of its own for every start, ended by the system between any two instructions."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from kontext_slider.train.pocket.base import BASE, train_base
from kontext_slider.train.pocket.model import PocketSizes
from kontext_slider.train.pocket.pairs import ShardSize
from tests.train.data_set import read_losses

KILLS, SECONDS = 12, 120.0
TINY = PocketSizes(double_blocks=1, single_blocks=1, text=32)
CONFIG = BASE.changed(
    codec_pictures=3, sizes=(ShardSize(32, 32, 4, 4),), steps=26, checkpoint_every=1, log_every=1, compiled=False
)


def train(folder: str) -> None:
    torch.set_num_threads(1)
    train_base(CONFIG, Path(folder), TINY)


def train_and_kill(context, folder: Path, rng: random.Random) -> None:
    """Start the run, and kill it soon after its first new checkpoint."""
    checkpoints = folder / "base" / "checkpoints"
    before, deadline = set(checkpoints.glob("step-*")), time.monotonic() + SECONDS
    process = context.Process(target=train, args=(str(folder),))
    process.start()
    while not set(checkpoints.glob("step-*")) - before and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.06))
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_run_that_is_killed_twelve_times_has_the_losses_of_one_that_is_not(tmp_path):
    """Words numbered anew at every start: a resumed run read the embeddings of other words."""
    context, rng = get_context("forkserver"), random.Random(5)
    context.set_forkserver_preload([__name__])  # the libraries are imported once
    whole = context.Process(target=train, args=(str(tmp_path / "whole"),))
    whole.start()
    whole.join(SECONDS)
    for _ in range(KILLS):
        train_and_kill(context, tmp_path / "killed", rng)
    last = context.Process(target=train, args=(str(tmp_path / "killed"),))
    last.start()
    last.join(SECONDS)
    losses = [read_losses(tmp_path / name / "base") for name in ("whole", "killed")]
    assert len(losses[0]) == CONFIG.steps and losses[1] == pytest.approx(losses[0], rel=1e-4)
