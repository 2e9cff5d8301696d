"""The recipe as a command: what it refuses before it begins, what it writes, and the shipped slider's own training."""

import json
import re
import runpy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kontext_slider.cli import main
from kontext_slider.errors import InvalidInput
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.train.config import POCKET
from kontext_slider.train.pocket import recipe
from kontext_slider.train.pocket.base import train_base
from kontext_slider.train.slider import train_slider
from kontext_slider.variants import load_variant
from tests.tiny import tiny_image
from tests.train.pocket.test_base import SIZES, TINY, TINY_BASE

TINY_SLIDER = POCKET.changed(
    sizes=SIZES, steps=4, rank=2, hidden_dim=16, checkpoint_every=2, log_every=1, compiled=False
)
LOSSES = Path(__file__).with_name("losses.json")

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's rms_norm


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    tiny_image().save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


@pytest.fixture
def tiny_recipe(monkeypatch):
    """`train` with a model that is trained in seconds."""
    monkeypatch.setitem(recipe.RECIPES, "cpu", (TINY_BASE, TINY_SLIDER))
    monkeypatch.setattr(recipe, "train_base", partial(train_base, sizes=TINY))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--start", "nowhere"], "no pocket model .*--start"),
        (["--only", "measure", "--out", "nowhere"], "no pocket model .*--out"),
        (["--photos", "nowhere"], "no photographs in nowhere.*--photos"),
        (["--photos", "empty"], "no photographs in empty.*--photos"),
        (["--only", "measure", "--scenes-per-edit", "0"], "--scenes-per-edit: must be a whole number from 1"),
    ],
)
def test_what_would_fail_hours_later_is_said_at_once(tmp_path, photos, monkeypatch, capsys, flags, problem):
    """`make train` and a typing error: a traceback, after the training."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pocket", "--photos", str(photos), *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("kontext_slider.train.pocket", run_name="__main__")
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and re.search(problem, printed), printed
    assert not (tmp_path / "runs").exists()


def test_the_whole_recipe_runs_small(tmp_path, monkeypatch, tiny_recipe):
    """The command that made the shipped weights: base, slider, saved into its own run and not over the shipped
    weights; the slider leaves the base alone, and what is saved loads."""
    shipped = tmp_path / "weights" / "pocket"
    shipped.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--only", "train", "--run", "runs/other"]) == 0
    out = tmp_path / "runs" / "other" / "model"
    assert not list(shipped.iterdir())
    pipe = KontextSliderPipeline.from_pretrained(out)
    assert pipe.has_slider and pipe.defaults.size == 256 and pipe.known_instructions["night"]
    offsets = pipe.slider_projector(torch.tensor([0.5]), torch.randn(1, 32))
    assert offsets.shift.abs().max() > 0, "the projector has not learned"
    base = train_base(TINY_BASE, tmp_path / "runs" / "other", TINY)["transformer"]
    saved = dict(pipe.transformer.named_parameters())
    for name, parameter in base.named_parameters():
        kept = saved[name] if name in saved else saved[_inside_lora(name)]
        assert torch.allclose(parameter, kept.float(), atol=2e-3), name
    assert len((out / "training" / "slider.jsonl").read_text().splitlines()) == 4
    row = "| slider, 1 shapes of 32 to 32 px a side | 12 pairs at any strength | 4 | 2 |"
    assert row in recipe.training_section(out)


def _inside_lora(name: str) -> str:
    """The name of a parameter once peft has wrapped its layer."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.base_layer.{leaf}"


@pytest.mark.slow
def test_the_same_command_again_is_the_same_run(tmp_path, tiny_recipe):
    """A run that is not found again; one that goes on from another model under the same name."""

    def weights(*words: str) -> dict[str, list]:
        out = Path(words[1]) / "model"
        assert main(["train", "--only", "train", *words]) == 0
        files = {str(path.relative_to(out)): load_file(path) for path in out.rglob("*.safetensors")}
        return {f"{file} {name}": tensor.tolist() for file, parts in files.items() for name, tensor in parts.items()}

    first = weights("--run", str(tmp_path / "first"))
    assert weights("--run", str(tmp_path / "first")) == first
    on = ("--run", str(tmp_path / "second"), "--start", str(tmp_path / "first" / "model"))
    second = weights(*on)
    assert second != first and weights(*on) == second
    other = ["--run", str(tmp_path / "first"), "--start", str(tmp_path / "second" / "model")]
    assert main(["train", "--only", "train", *other]) == 2


@pytest.fixture(scope="module")
def based(tmp_path_factory) -> dict:
    """The parts of a tiny base model; of a run that is over, so that accelerate's state is reset."""
    from accelerate.state import AcceleratorState, GradientState

    parts = train_base(TINY_BASE.changed(steps=1), tmp_path_factory.mktemp("base"), TINY)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return parts


def test_a_slider_stays_on_its_base(tmp_path, based):
    """A slider's checkpoint put on another base, which it was never trained for."""
    pipe = recipe.build_pipeline(dict(based))
    train_slider(pipe, TINY_SLIDER, tmp_path)
    pipe.unload_slider()
    weight = next(pipe.transformer.parameters())
    with torch.no_grad():
        weight += 1
    try:
        with pytest.raises(InvalidInput, match="another data_or_base_model"):
            train_slider(pipe, TINY_SLIDER, tmp_path)
    finally:
        with torch.no_grad():
            weight -= 1


def test_a_slider_starts_from_an_earlier_one(tmp_path, based):
    """A start that is not taken, or one whose LoRA is frozen, would be a shorter training and nothing else."""

    def slider_after(config, folder: Path) -> list[torch.Tensor]:
        pipe = recipe.build_pipeline(dict(based))
        train_slider(pipe, config, folder)
        weights = [p.detach().clone() for p in pipe.slider_parameters()]
        if not (tmp_path / "earlier").exists():
            pipe.save_slider(tmp_path / "earlier")
        pipe.unload_slider()
        return weights

    first = slider_after(TINY_SLIDER, tmp_path / "first")
    start = TINY_SLIDER.changed(start=tmp_path / "earlier")
    same = slider_after(start.changed(steps=0), tmp_path / "second")
    further = slider_after(start.changed(steps=2), tmp_path / "third")
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(first, same, strict=True))
    assert sum(not torch.equal(a, b) for a, b in zip(same, further, strict=True)) > len(same) // 2


@pytest.mark.parametrize("kind", ["text-space", "no-pooled"])
def test_an_ablation_trains_on_synthetic_pairs(tmp_path, based, kind):
    """A projector that never gets a gradient through its token or its offsets."""
    pipe = recipe.build_pipeline(dict(based))
    train_slider(pipe, TINY_SLIDER.changed(kind=kind), tmp_path)
    pipe.unload_slider()
    projector = load_variant(tmp_path / "slider").projector
    low, high = (projector(torch.tensor([s]), torch.ones(1, 32))[0] for s in (0.1, 0.9))
    assert low.abs().max() > 0 and not torch.equal(low, high)


def test_the_shipped_sliders_training_gives_the_recorded_losses(tmp_path):
    """A trainer that was changed and trains another slider under the same name. The losses are those of the trainer
    that made the shipped weights, on two small shards, of a run of 10 steps; bfloat16 differs from processor to
    processor, so they are compared to 2 %."""
    losses: list[float] = []
    wanted = json.loads(LOSSES.read_text(encoding="utf-8"))["losses"]

    def note(step: int, loss: float) -> None:
        losses.append(loss)
        if step == len(wanted):
            raise KeyboardInterrupt

    pipe = KontextSliderPipeline.from_pretrained("weights/pocket", dtype=torch.float32)
    sizes = tuple(replace(size, sources=3, batch=4) for size in POCKET.sizes if size.rows or size.width == 192)
    with pytest.raises(KeyboardInterrupt):
        train_slider(pipe, POCKET.changed(sizes=sizes, steps=10, compiled=False), tmp_path, on_step=note)
    assert losses == pytest.approx(wanted, rel=0.02)
