"""The base model's training at a size that takes a second: its start, its loss, its resume."""

import pytest
import torch

from kontext_slider.train import loop
from kontext_slider.train.flow import flow_error, weighted_square
from kontext_slider.train.pocket.base import BASE, train_base
from kontext_slider.train.pocket.model import PocketSizes
from kontext_slider.train.pocket.pairs import ShardSize
from kontext_slider.train.pocket.recipe import build_pipeline
from tests.train.data_set import read_losses

SIZES = (ShardSize(32, 32, 4, 2),)
TINY_BASE = BASE.changed(codec_pictures=3, sizes=SIZES, steps=4, checkpoint_every=2, log_every=1, compiled=False)
TINY = PocketSizes(double_blocks=1, single_blocks=1, text=32)

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm


class Killed(Exception):
    pass


@torch.no_grad()
def test_the_loss_of_no_edit_starts_at_zero(parts):
    """At the start the model copies the source, so the loss of "change nothing" is nearly 0 and grows with the
    change."""
    source, noise, change = torch.randn(3, 2, 16, 16, 16)
    texts, sigmas = (torch.randn(2, 16, 32), torch.randn(2, 32)), torch.tensor([0.2, 0.9])
    same, other = (
        weighted_square(flow_error(parts["transformer"], source, target, *texts, sigmas, noise))
        for target in (source, source + change)
    )
    assert same < 0.01
    assert torch.allclose(other, change.square().mean(), rtol=0.1)


def test_a_killed_run_goes_on_to_the_same_losses(tmp_path, monkeypatch):
    """A resume that forgets one of two optimisers, the text encoders or the heads. torch's products of few rows differ
    in their last bits from call to call, so the losses are compared; `test_loop` compares bits."""
    parts, step = train_base(TINY_BASE, tmp_path / "whole", TINY), loop.Loop.step

    def killed(self, number: int) -> float:
        if number == 3:
            raise Killed
        return step(self, number)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Loop, "step", killed)
        train_base(TINY_BASE, tmp_path / "killed", TINY)
    train_base(TINY_BASE, tmp_path / "killed", TINY)
    losses = [read_losses(tmp_path / name / "base") for name in ("whole", "killed")]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert not any("heads" in name or ".block." in name for name in parts["transformer"].state_dict())


def test_training_starts_from_an_earlier_model(tmp_path):
    """A start that forgets words, or the codec, would throw the earlier training away without a sign."""
    parts = train_base(TINY_BASE.changed(steps=2), tmp_path / "first", TINY)
    build_pipeline(parts).save_pretrained(tmp_path / "model")
    further = TINY_BASE.changed(start=tmp_path / "model", seed=9, steps=0)
    again = train_base(further, tmp_path / "second", TINY)
    for part in ("vae", "transformer"):
        for name, weight in parts[part].state_dict().items():
            assert torch.equal(weight, again[part].state_dict()[name]), name
    sentence = "make the left tree blue"
    texts = [kit["tokenizer"](sentence, return_tensors="pt").input_ids for kit in (parts, again)]
    pooled = [kit["text_encoder"](ids).pooler_output for kit, ids in zip((parts, again), texts, strict=True)]
    torch.testing.assert_close(*pooled)
