"""Settings of a run: what is refused, what is noted, what the presets say."""

from __future__ import annotations

from pathlib import Path

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.train.config import (
    ABLATIONS,
    CHECKPOINTS,
    PRESETS,
    RUN_FILE,
    open_run,
    read_run,
    with_settings,
)
from tests.train.data_set import CONFIG


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "text"},
        {"timesteps": "logit_normal"},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"steps": True},
        {"rate": -1e-4},
        {"rate": float("nan")},
        {"slider_drop": 1.5},
        {"beta2": 1},
        {"ema": "0.9"},
        {"degree": 0},
        {"degree": 2.5},
        {"gradient_checkpointing": 1},
        {"sizes": [{"width": 256}]},
        {"stepz": 4},
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings):
    """A typing error that is found after three days of training."""
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        CONFIG.changed(**settings)


def test_a_run_is_noted_and_held_against_its_note(tmp_path):
    """A resumed run with another rate or other data is neither the old run nor a new one."""
    config = CONFIG.changed(ema=0.999)
    open_run(tmp_path, config, "abc")
    open_run(tmp_path, config, "abc")
    assert read_run(tmp_path) == config
    with pytest.raises(InvalidInput, match="another rate .*, ema"):
        open_run(tmp_path, config.changed(rate=0.5, ema=None), "abc")
    with pytest.raises(InvalidInput, match="data_or_base_model"):
        open_run(tmp_path, config, "abd")
    for corrupt in ("{", ""):
        (tmp_path / RUN_FILE).write_text(corrupt)
        with pytest.raises(InvalidInput, match="cannot be read.*delete the file"):
            read_run(tmp_path)


def test_the_note_of_a_run_is_whole_or_not_there(tmp_path, monkeypatch):
    """A power cut that leaves an empty run.json, and with it a folder that is refused for good."""
    monkeypatch.setattr("os.replace", lambda *names: pytest.fail("cut"))
    with pytest.raises(pytest.fail.Exception):
        open_run(tmp_path, CONFIG, "abc")
    assert not list(tmp_path.iterdir())


def test_settings_from_the_command_line():
    """ "steps=1e3" taken for a word, or a misspelt name taken for nothing."""
    config = with_settings(CONFIG, ["steps=12", "rate=1e-4", "kind=text-space", "ema=null"])
    assert (config.steps, config.rate, config.kind, config.ema) == (12, 1e-4, "text-space", None)
    for settings, problem in ((["step=12"], "no setting step"), (["steps"], "NAME=VALUE"), (["steps=1e3"], "steps")):
        with pytest.raises(InvalidInput, match=problem):
            with_settings(CONFIG, settings)


def test_the_papers_numbers():
    """Each of them has been mistyped by somebody."""
    paper = PRESETS["kontext-dev"]
    assert (paper.size, paper.batch_size, paper.steps, paper.rate, paper.warmup) == (512, 8, 110_000, 2e-5, 200)
    assert (paper.beta2, paper.weight_decay, paper.clip) == (0.999, 1e-4, 1.0)
    assert (paper.optimiser, paper.precision, paper.slider_drop) == ("adamw8bit", "bf16", 0.1)
    assert (paper.rank, paper.hidden_dim, paper.strength_dim) == (4, 6144, 128)
    assert (paper.timesteps, paper.weighting, paper.place) == ("uniform", "none", "text_stream")
    assert {PRESETS[name].kind for name in PRESETS} == {"modulation", "text-space", "no-pooled"}


def test_the_papers_ablations_differ_in_one_setting():
    """An ablation under another's name makes the table a lie."""
    for model in ("pocket", "kontext-dev"):
        full = dict(PRESETS[model])
        changed = {name: dict(PRESETS[model + name]).items() - full.items() for name in ABLATIONS}
        assert changed == {name: changes.items() - full.items() for name, changes in ABLATIONS.items()}
    assert {tuple(changes) for changes in ABLATIONS.values()} == {(), ("kind",)}


def write_model(folder: Path, value: int) -> Path:
    """What a run looks at of the model that it starts from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(bytes([value]))
    return folder


def test_a_run_keeps_its_start_but_not_its_machine(tmp_path):
    """Half a run from one model and half from another of the same name; a run that cannot be resumed on a GPU."""
    run = CONFIG.changed(start=write_model(tmp_path / "model", 1))
    open_run(tmp_path / "run", run)
    open_run(tmp_path / "run", run.changed(device="cpu", compiled=True))
    with pytest.raises(InvalidInput, match="another start"):
        open_run(tmp_path / "run", run.changed(start=None))
    write_model(tmp_path / "model", 2)
    with pytest.raises(InvalidInput, match="another weights_of_start"):
        open_run(tmp_path / "run", run)


def test_checkpoints_of_which_nothing_is_noted_are_not_resumed(tmp_path):
    """Whose are they?"""
    (tmp_path / CHECKPOINTS).mkdir()
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_run(tmp_path, CONFIG)


def test_the_learning_rate_warms_up_then_stays_or_falls():
    """A first step at full rate, or a constant rate that decays."""
    config = CONFIG.changed(steps=100, warmup=10)
    assert [config.factor(step) for step in (0, 4, 9, 50, 99)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    falling = config.changed(decay="linear")
    assert falling.factor(0) == 0.1 and falling.factor(10) == 1.0 and falling.factor(99) < 0.02


def test_a_batch_that_does_not_divide_is_refused():
    """Rounded down, the batch would shrink without a word."""
    assert CONFIG.changed(batch_size=8, accumulation=2).rows_per_part(2) == 2
    with pytest.raises(InvalidInput, match="multiple of 3"):
        CONFIG.changed(batch_size=8).rows_per_part(3)
