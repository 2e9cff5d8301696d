"""`kontext-slider train-concept`: which sliders are trained, and on what."""

import pytest
from PIL import Image

from kontext_slider.cli import main
from kontext_slider.world.cases import HELD_OUT_SEED, REPORTING_SEED, balanced_case
from tests.tiny import tiny_pipeline


@pytest.fixture
def trained(monkeypatch):
    """The arguments of every training."""
    calls = []
    monkeypatch.setattr("kontext_slider.cli.train_concept.load_pipeline", lambda name, **kwargs: tiny_pipeline())
    monkeypatch.setattr(
        "kontext_slider.cli.train_concept.train_concept_sliders", lambda pipe, *rest: calls.append(rest)
    )
    return calls


def test_the_instructions_are_those_that_evaluate_will_ask_for(trained, tmp_path):
    """Sliders of other edits are trained for an hour, and `evaluate --concept-sliders` then misses its own."""
    flags = ["--out", str(tmp_path), "--edits", "3", "--drawn-scenes", "-i", "make it day", "eta=2", "opposite=night"]
    assert main(["train-concept", *flags]) == 0
    ((instructions, config, folder, sources),) = trained
    drawn = [balanced_case(n, 32, HELD_OUT_SEED + REPORTING_SEED).instruction for n in range(3)]
    assert instructions == ["make it day", *drawn] and folder == tmp_path and sources == []
    assert (config.eta, config.opposite) == (2.0, "night")


def test_pictures_are_of_the_models_size(trained, tmp_path):
    """A photograph of 12 megapixels would be 190,000 tokens."""
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    assert main(["train-concept", "--out", str(tmp_path), "--images", str(tmp_path), "-i", "make it day"]) == 0
    (source,) = trained[0][3]
    assert source.width % 4 == source.height % 4 == 0 and source.width * source.height <= 2 * 32 * 32


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--drawn-scenes"], "Nothing to train"),
        (["--drawn-scenes", "-i", "make it day", "step=3"], "There is no setting step"),
        (["-i", "make it day"], "one of the arguments --images --drawn-scenes is required"),
    ],
)
def test_wrong_use_is_told(trained, tmp_path, capsys, flags, words):
    """Scenes are drawn for pocket alone: nobody gets them with another model unasked."""
    try:
        status = main(["train-concept", "--out", str(tmp_path), *flags])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2 and words in capsys.readouterr().err and not trained
