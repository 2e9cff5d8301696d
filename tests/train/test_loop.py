"""The loop that can be killed: the same weights, one log, whole checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kontext_slider.errors import CheckpointError, DiskError
from kontext_slider.train.config import RunConfig
from kontext_slider.train.loop import Loop, make_accelerator, make_optimizers
from tests.mounts import mounted

CONFIG = RunConfig(steps=12, rate=1e-2, warmup=3, optimiser="adamw", precision="no", checkpoint_every=4, log_every=2)


class Killed(Exception):
    pass


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.out = nn.ModuleList([nn.Linear(6, 6)]), nn.Linear(6, 2)

    def forward(self, batch: Tensor) -> Tensor:
        return self.out(self.blocks[0](batch)).square().mean()


def draw(step: int, part: int, num_parts: int) -> Tensor:
    """Four rows, dealt out to the parts."""
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
    return rows.chunk(num_parts)[part]


def run(folder: Path, config: RunConfig = CONFIG, kill_at: int | None = None, muon: float | None = None) -> Loop:
    """A run of a fresh model; killed while it draws the batch of step `kill_at`."""
    torch.manual_seed(0)
    model = Model()

    def draw_or_die(step: int, part: int, num_parts: int) -> Tensor:
        if step == kill_at:
            raise Killed
        return draw(step, part, num_parts)

    optimizers = make_optimizers(model, config, muon)
    loop = Loop(model, optimizers, draw_or_die, config, folder, make_accelerator(config))
    loop.run()
    return loop


@pytest.mark.parametrize("muon", [None, 1e-2])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, muon, ema):
    """A resume that forgets an optimiser, the averages or the place in the data gives other weights."""
    config = CONFIG.changed(ema=ema)
    whole = run(tmp_path / "whole", config, muon=muon)
    with pytest.raises(Killed):
        run(tmp_path / "killed", config, kill_at=10, muon=muon)
    resumed = run(tmp_path / "killed", config, muon=muon)
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, resumed.parameters[name])
    with whole.averaged(), resumed.averaged():
        for name, parameter in whole.parameters.items():
            assert torch.equal(parameter, resumed.parameters[name])


def test_averages_are_in_place_only_inside_the_block(tmp_path):
    """The averages trained further, or a slider saved that is not the average."""
    loop = run(tmp_path, CONFIG.changed(ema=0.9))
    last = [parameter.detach().clone() for parameter in loop.parameters.values()]
    with loop.averaged():
        assert not any(torch.equal(a, b) for a, b in zip(last, loop.parameters.values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(last, loop.parameters.values(), strict=True))


def test_parts_of_a_batch_train_as_the_whole(tmp_path):
    """Gradients of the last part only, or their sum."""
    whole, parts = run(tmp_path / "whole"), run(tmp_path / "parts", CONFIG.changed(accumulation=2))
    for name, parameter in whole.parameters.items():
        torch.testing.assert_close(parameter, parts.parameters[name], rtol=1e-4, atol=1e-5)


def test_a_resumed_log_has_every_step_once(tmp_path):
    """10 20 30 10 20 30 40: a curve that goes back on itself, copied into the model's folder."""
    for kill_at in (7, 11):
        with pytest.raises(Killed):
            run(tmp_path, kill_at=kill_at)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 12, "lo')
    run(tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_a_corrupt_checkpoint_is_a_sentence(tmp_path):
    """A disk that lost the end of a file, and a traceback of the archive reader's."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000004-0123456789abcdef.pt").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="Delete them"):
        run(tmp_path)


def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(tmp_path):
    """torch's error names no file, and the half that was written kept the disk full."""
    with mounted(tmp_path / "run", "-t", "tmpfs", "-o", "size=24k", "tmpfs") as folder:
        (folder / "filler").write_bytes(b"x" * 16 * 1024)
        with pytest.raises(DiskError, match=r"Could not write .*checkpoints.*No space left"):
            run(folder)
        assert list((folder / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    """Some of its weights restored, and the others fresh."""
    run(tmp_path, CONFIG.changed(steps=4))
    other = nn.Sequential(nn.Linear(6, 1))
    accelerator = make_accelerator(CONFIG)
    with pytest.raises(CheckpointError, match="another model"):
        Loop(other, make_optimizers(other, CONFIG), draw, CONFIG, tmp_path, accelerator).run()


def test_the_learning_rate_warms_up_and_falls_to_zero():
    """A schedule off by one would divide by zero or stop at a high rate."""
    config = CONFIG.changed(steps=1000, warmup=100, decay="linear")
    factors = [config.factor(step) for step in range(1000)]
    assert factors[0] == 0.01 and max(factors) == 1.0 == factors[99] and 0 < factors[-1] < 0.002
    assert CONFIG.changed(steps=0, warmup=5).factor(0) == 0.2
