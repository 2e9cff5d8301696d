"""Morphers by name."""

import pytest
import torch

from kontext_slider.errors import CheckpointError
from kontext_slider.morph import FADES, MORPHERS, OWN_MODELS, MorpherLoader
from kontext_slider.morph.freemorph import FreeMorph

WHERE = torch.device("cpu"), torch.float32


def test_free_morph_is_loaded_with_the_captions_that_were_named(diffusion, tmp_path):
    """Its weights are on no machine of ours: were a name or the order of the arguments another, nobody would see."""
    diffusion.save_pretrained(tmp_path / "sd")
    (tmp_path / "captions.json").write_text('{"make it snow": ["a temple", "snow"]}')
    loader = MorpherLoader(*WHERE, str(tmp_path / "captions.json"))
    morpher = loader.load("free-morph", str(tmp_path / "sd"))
    assert isinstance(morpher, FreeMorph) and morpher.captions is loader.captioner
    assert (morpher.sd.steps, morpher.walked, morpher.guidance) == (50, 40, 7.5)


@pytest.mark.parametrize("name", OWN_MODELS)
def test_a_model_that_is_not_there_is_a_sentence_with_its_name(name, tmp_path):
    """A typo in a flag."""
    with pytest.raises(CheckpointError, match="no-such-folder"):
        MorpherLoader(*WHERE).load(name, str(tmp_path / "no-such-folder"))


def test_every_name_is_a_cross_fade_or_has_a_default_model():
    """A name that no loader knows would be a KeyError after hours of editing."""
    assert set(MORPHERS) == FADES.keys() | OWN_MODELS.keys()
    assert all(MorpherLoader(*WHERE).load(name) is FADES[name] for name in FADES)
