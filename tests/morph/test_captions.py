"""Captions from a file and from a tiny LLaVA-NeXT of real classes."""

import json

import pytest
import torch

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.morph.captions import LlavaCaptions, load_captions
from tests.tiny import tiny_image

WHERE = torch.device("cpu"), torch.float32


def test_llava_describes_each_picture_without_torchvision(llava):
    """The hub's processor names torchvision's class. And the question must not come back as a part of the answer."""
    captions = load_captions(llava, *WHERE)
    assert isinstance(captions, LlavaCaptions)
    first, other = captions(tiny_image(40, 32, 1), tiny_image(40, 32, 2), "make it snow")
    assert first and first != other and "INST" not in first + other
    assert captions.describe(tiny_image(40, 32, 1)) == first


def test_captions_of_a_file_are_found_by_the_instruction(tmp_path):
    """Words that the caller has, such as the prompts of a benchmark, must not be those of another edit."""
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"make it snow": ["a temple", "a temple in the snow"]}))
    captions = load_captions(str(path), *WHERE)
    assert captions(tiny_image(), tiny_image(), "make it snow") == ("a temple", "a temple in the snow")
    with pytest.raises(InvalidInput, match="'make it night'"):
        captions(tiny_image(), tiny_image(), "make it night")


@pytest.mark.parametrize("text", ["", "[]", '{"make it snow": "a temple"}', '{"make it snow": ["one"]}', None])
def test_a_file_of_another_form_is_a_sentence(tmp_path, text):
    """A word in the place of a pair would be unpacked into letters."""
    path = tmp_path / "captions.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match="captions of source and edit"):
        load_captions(str(path), *WHERE)


def test_a_model_that_is_not_there_is_a_sentence(tmp_path):
    """A typo in --captions."""
    with pytest.raises(CheckpointError, match="--captions"):
        load_captions(str(tmp_path / "none"), *WHERE)
