"""Settings of a run: what is refused, what is noted, what the presets say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.train.pocket.slider import SliderRun
from kontext_slider.train.slider.config import RUN_FILE, open_run, read_run, with_settings
from kontext_slider.train.slider.presets import PRESETS
from tests.train.slider.data import CONFIG


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
        {"beta1": 1.0},
        {"beta2": 1},
        {"ema": "0.9"},
        {"degree": 0},
        {"degree": 2.5},
        {"gradient_checkpointing": 1},
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings):
    """A typing error that is found after three days of training."""
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        replace(CONFIG, **settings)


def test_a_run_is_noted_and_held_against_its_note(tmp_path):
    """A resumed run with another rate or other data is neither the old run nor a new one."""
    config = replace(CONFIG, ema=0.999)
    open_run(tmp_path, config, "abc")
    open_run(tmp_path, config, "abc")
    assert read_run(tmp_path) == config
    with pytest.raises(InvalidInput, match="another rate .*, ema"):
        open_run(tmp_path, replace(config, rate=0.5, ema=None), "abc")
    with pytest.raises(InvalidInput, match="data_or_base_model"):
        open_run(tmp_path, config, "abd")
    for torn in ("{", ""):
        (tmp_path / RUN_FILE).write_text(torn)
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
    assert (paper.beta1, paper.beta2, paper.weight_decay, paper.clip) == (0.9, 0.999, 1e-4, 1.0)
    assert (paper.optimiser, paper.precision, paper.guidance, paper.slider_drop) == ("adamw8bit", "bf16", 1.0, 0.1)
    assert (paper.rank, paper.hidden_dim, paper.num_layers, paper.strength_dim) == (4, 6144, 4, 128)
    assert (paper.timesteps, paper.weighting, paper.place) == ("uniform", "none", "text_stream")
    assert {PRESETS[name].kind for name in PRESETS} == {"modulation", "text-space", "no-pooled"}


def test_pockets_preset_is_the_shipped_slider():
    """Two recipes under one name, of which only one is kept up to date."""
    run, preset = SliderRun(), PRESETS["pocket"]
    for name in ("rate", "rank", "hidden_dim", "place", "degree"):
        assert getattr(run, name) == getattr(preset, name), name


def test_the_learning_rate_warms_up_then_stays_or_falls():
    """A first step at full rate, or a constant rate that decays."""
    config = replace(CONFIG, steps=100, warmup=10)
    assert [config.factor(step) for step in (0, 4, 9, 50, 99)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    falling = replace(config, decay="linear")
    assert falling.factor(0) == 0.1 and falling.factor(10) == 1.0 and falling.factor(99) < 0.02


def test_a_batch_that_does_not_divide_is_refused():
    """Rounded down, the batch would shrink without a word."""
    assert replace(CONFIG, batch_size=8, accumulation=2).rows_per_part(2) == 2
    with pytest.raises(InvalidInput, match="multiple of 3"):
        replace(CONFIG, batch_size=8).rows_per_part(3)
