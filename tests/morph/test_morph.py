"""Morphers by name."""

import json
from importlib.util import find_spec

import pytest
import torch

from kontext_slider.cli import main
from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.metrics import networks
from kontext_slider.metrics.distances import rms
from kontext_slider.morph import FADES, MORPHERS, OWN_MODELS, MorpherLoader, freemorph
from kontext_slider.morph.diffmorpher import DiffMorpher
from kontext_slider.morph.freemorph import FreeMorph
from kontext_slider.morph.wan import WanMorpher
from tests.tiny import tiny_pipeline

WHERE = torch.device("cpu"), torch.float32


def test_free_morph_is_loaded_with_the_captions_that_were_named(diffusion, tmp_path):
    """Its weights are on no machine of ours: were a name or the order of the arguments another, nobody would see."""
    diffusion.save_pretrained(tmp_path / "sd")
    (tmp_path / "captions.json").write_text('{"make it snow": ["a temple", "snow"]}')
    loader = MorpherLoader(*WHERE, str(tmp_path / "captions.json"))
    morpher = loader.load("free-morph", str(tmp_path / "sd"))
    assert isinstance(morpher, FreeMorph) and morpher.captions is loader.captioner
    assert (morpher.sd.steps, morpher.walked, morpher.guidance) == (50, 40, 7.5)


def test_diff_morpher_is_loaded_with_lpips(diffusion, tmp_path, monkeypatch):
    """The paper re-spaces by LPIPS: another ruler in silence would be another method."""
    diffusion.save_pretrained(tmp_path / "sd")
    (tmp_path / "captions.json").write_text('{"make it snow": ["a temple", "snow"]}')
    asked = []
    monkeypatch.setattr(networks, "lpips_distance", lambda *args: asked.append(args) or rms)
    morpher = MorpherLoader(*WHERE, str(tmp_path / "captions.json")).load("diff-morpher", str(tmp_path / "sd"))
    assert asked == [(WHERE[0], "alex")]
    assert isinstance(morpher, DiffMorpher) and morpher.distance is rms
    assert (morpher.sd.steps, morpher.lora_steps) == (50, 200)


def test_wan_is_loaded_where_and_as_it_was_asked_for(monkeypatch):
    """Fourteen billion weights in the wrong precision, or on a device that they do not fit."""
    asked = []
    monkeypatch.setattr(WanMorpher, "from_pretrained", lambda *args: asked.append(args) or "morpher")
    assert MorpherLoader(torch.device("cpu"), torch.bfloat16, offload=True).load("wan") == "morpher"
    assert asked == [("Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", torch.device("cpu"), torch.bfloat16, True)]


@pytest.mark.skipif(find_spec("lpips") is not None, reason="LPIPS is there")
def test_a_missing_package_is_named():
    """Before models are loaded, and not another ruler."""
    with pytest.raises(InvalidInput, match="pip install lpips"):
        MorpherLoader(*WHERE).load("diff-morpher", "any")


@pytest.mark.parametrize("name", OWN_MODELS)
def test_a_model_that_is_not_there_is_a_sentence_with_its_name(name, tmp_path, monkeypatch):
    """A typo in a flag."""
    monkeypatch.setattr(networks, "lpips_distance", lambda device, net: rms)
    with pytest.raises(CheckpointError, match="no-such-folder"):
        MorpherLoader(*WHERE).load(name, str(tmp_path / "no-such-folder"))


def test_every_name_is_a_cross_fade_or_has_a_default_model():
    """A name that no loader knows would be a KeyError after hours of editing."""
    assert set(MORPHERS) == FADES.keys() | OWN_MODELS.keys()
    assert all(MorpherLoader(*WHERE).load(name) is FADES[name] for name in FADES)


@pytest.mark.slow
def test_a_system_with_a_model_of_its_own_is_measured_from_the_command_line(diffusion, llava, tmp_path, monkeypatch):
    """Every part was tested and nothing ran through: flags, loader, captions by LLaVA, frames, report."""
    monkeypatch.setattr(freemorph, "STEPS", 4)
    diffusion.save_pretrained(tmp_path / "sd")
    tiny_pipeline().save_pretrained(tmp_path / "model")
    code = main([
        "evaluate", "--model", str(tmp_path / "model"), "--edits", "1", "--baselines", "--distance", "rms",
        "--free-morph", str(tmp_path / "sd"), "--captions", llava, "--out", str(tmp_path / "out"),
        "--json", str(tmp_path / "figures.json"),
    ])  # fmt: skip
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert not code and figures["rivals"]["free-morph"]["delta_smooth"] > 0
