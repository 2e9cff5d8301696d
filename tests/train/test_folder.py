"""The folder of a pocket run: one run, its own drawings, and no other's checkpoints."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kontext_slider.codec import PatchCodec
from kontext_slider.errors import InvalidInput
from kontext_slider.train.loop import CHECKPOINT
from kontext_slider.train.pocket import recipe
from kontext_slider.train.pocket.base import BaseRun, train_base
from kontext_slider.train.pocket.batches import ShardSize
from kontext_slider.train.pocket.folder import RUN_FILE, open_run
from kontext_slider.train.pocket.model import PocketSizes
from kontext_slider.train.pocket.pairs import any_strength, draw_shard, load_or_draw
from kontext_slider.train.pocket.slider import SliderRun, train_slider

SIZES = (ShardSize(32, 32, 4, 2),)
BASE = BaseRun(codec_pictures=3, sizes=SIZES, steps=2, compiled=False)
SLIDER = SliderRun(sizes=SIZES, steps=2, rank=2, hidden_dim=16, compiled=False)
TINY = PocketSizes(double_blocks=1, single_blocks=1, text=32)

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm


def write_model(folder: Path, value: float) -> Path:
    """What a run looks at of the model that it starts from."""
    (folder / "vae").mkdir(parents=True, exist_ok=True)
    (folder / "vae" / "model.safetensors").write_bytes(bytes([int(value)]))
    return folder


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"seed": 9}, "another seed"), ({"codec_seed": 9}, "codec_seed"), ({"start": None}, "another start"), ({}, None)],
)
def test_a_folder_keeps_its_run(tmp_path, changes, problem):
    """One run's transformer with another's codec, or half a run by one seed and half by another, and no word of it."""
    run = replace(BASE, start=write_model(tmp_path / "model", 1))
    open_run(tmp_path / "run", run)
    changed = replace(run, device="cuda", compiled=True, **changes)
    if problem is None:
        open_run(tmp_path / "run", changed)
    else:
        with pytest.raises(InvalidInput, match=problem):
            open_run(tmp_path / "run", changed)


def test_a_start_whose_weights_have_changed_is_another(tmp_path):
    """The model at the same path, but another."""
    run = replace(BASE, start=write_model(tmp_path / "model", 1))
    open_run(tmp_path / "run", run)
    write_model(tmp_path / "model", 2)
    with pytest.raises(InvalidInput, match="its weights have changed"):
        open_run(tmp_path / "run", run)


def test_checkpoints_of_which_nothing_is_noted_are_not_gone_on_from(tmp_path):
    """Whose are they? Those of a run before notes were kept, or of a note that is torn."""
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(InvalidInput, match="cannot be read.*another folder"):
        open_run(tmp_path, BASE)
    (tmp_path / RUN_FILE).write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read.*another folder"):
        open_run(tmp_path, BASE)


def test_a_slider_stays_on_its_base(tmp_path):
    """A slider's checkpoint put on another base, which it was never trained for."""
    parts = train_base(BASE, tmp_path, TINY)
    train_slider(recipe.build_pipeline(dict(parts)), SLIDER, tmp_path)
    other = recipe.build_pipeline(train_base(replace(BASE, seed=9), tmp_path / "other", TINY))
    with pytest.raises(InvalidInput, match="another base"):
        train_slider(other, SLIDER, tmp_path)


def test_a_shard_that_was_drawn_otherwise_is_drawn_anew(tmp_path):
    """Latents of another codec, pairs of another seed or at other strengths, under the name that is asked for."""
    codecs = [PatchCodec(latent_channels=8) for _ in range(2)]
    with torch.no_grad():
        codecs[1].gain += 1
    how = dict(codec=codecs[0], size=(32, 32), num_sources=4, seed=5, workers=1)
    load_or_draw(tmp_path / "a.safetensors", **how)
    for change in ({"codec": codecs[1]}, {"seed": 6}, {"strengths": any_strength}, {"num_sources": 3}):
        how |= change
        kept, drawn = load_or_draw(tmp_path / "a.safetensors", **how), draw_shard(**how)
        assert torch.equal(kept.target, drawn.target) and torch.equal(kept.strength, drawn.strength), change
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:50])
    assert torch.equal(load_or_draw(tmp_path / "a.safetensors", **how).target, drawn.target), "torn"
    written = (tmp_path / "a.safetensors").stat().st_mtime_ns
    load_or_draw(tmp_path / "a.safetensors", **{**how, "workers": 2})
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == written, "drawn again for nothing"


@pytest.mark.slow
def test_the_same_command_again_is_the_same_run(tmp_path, monkeypatch):
    """A run that is not known again, above all where its result has taken the place of the model it started from."""
    monkeypatch.setitem(recipe.RECIPES, "cpu", (replace(BASE, steps=10), replace(SLIDER, steps=10)))
    monkeypatch.setattr(recipe, "train_base", partial(train_base, sizes=TINY))
    parser = argparse.ArgumentParser()
    recipe.add_arguments(parser)

    def weights(*words: str) -> dict[str, bytes]:
        out = tmp_path / "model"
        recipe.run(parser.parse_args(["--only", "train", "--out", str(out), *words]))
        files = {str(path.relative_to(out)): load_file(path) for path in out.rglob("*.safetensors")}
        return {
            f"{file} {name}": tensor.tolist() for file, tensors in files.items() for name, tensor in tensors.items()
        }

    first = weights("--run", str(tmp_path / "first"))
    assert weights("--run", str(tmp_path / "first")) == first
    on = ("--run", str(tmp_path / "second"), "--start", str(tmp_path / "model"))
    second = weights(*on)
    assert second != first and weights(*on) == second
    with pytest.raises(InvalidInput, match="another start"):
        weights("--run", str(tmp_path / "first"), "--start", str(tmp_path / "model"))
