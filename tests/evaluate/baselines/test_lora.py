"""Concept Sliders: a trained LoRA whose scale is the strength."""

from dataclasses import replace

import numpy as np
import pytest

from kontext_slider.base_edit import BaseEdit
from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.baselines import CONCEPT_SLIDER, available
from kontext_slider.evaluate.baselines.lora import ConceptSlider, lora_scaled
from kontext_slider.instructions import NO_EDIT, folder_name
from kontext_slider.lora import ADAPTER, slider_layers, take_lora
from kontext_slider.lora_file import write_lora
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture
def folder(tmp_path):
    """With the LoRA of another pipeline's slider in the place of a trained one."""
    write_lora(tmp_path / folder_name(INSTRUCTION), take_lora(tiny_pipeline(seed=1).transformer))
    return tmp_path


def test_a_concept_slider_starts_at_no_edit_and_moves_by_its_own_lora(pipe, folder):
    """At 0 the base model keeps the source. With the instruction beside it, the LoRA would have nothing to add."""
    method = replace(ConceptSlider(folder=folder), start=0.0, end=1.0)
    frames = method(pipe, tiny_image(), INSTRUCTION, (0.0, 0.5, 1.0), 0)
    edit = BaseEdit(pipe, tiny_image(), INSTRUCTION, 0)
    untouched = edit.picture(edit.sample(edit.velocity_under(edit.encode_text(NO_EDIT))))
    assert (
        np.abs(frames[0] - untouched).max() <= 1.5 / 255 < min(np.abs(frames[k] - frames[k + 1]).max() for k in (0, 1))
    )


def test_our_slider_is_there_again_behind_it(pipe, folder):
    """Else every method after it would run with a concept slider's LoRA."""
    before = take_lora(pipe.transformer)
    ConceptSlider(folder=folder)(pipe, tiny_image(), INSTRUCTION, (0.5,), 0)
    after = take_lora(pipe.transformer)
    assert all(after.tensors[name].equal(tensor) for name, tensor in before.tensors.items())


def test_a_slider_that_was_not_trained_is_told_with_the_command(pipe, folder):
    """A missing file's name says nothing of what to do."""
    with pytest.raises(InvalidInput, match="train-concept --out .* -i 'make it night'"):
        ConceptSlider(folder=folder)(pipe, tiny_image(), "make it night", (0.5,), 0)
    with pytest.raises(InvalidInput, match="needs trained sliders"):
        available(pipe, [CONCEPT_SLIDER])[CONCEPT_SLIDER](pipe, tiny_image(), INSTRUCTION, (0.5,), 0)


def test_the_folder_reaches_the_method(pipe, folder):
    """The flag was read and not passed on: the row was missing from the report, without a word."""
    assert available(pipe, None, folder)[CONCEPT_SLIDER].folder == folder and CONCEPT_SLIDER not in available(pipe)


def test_the_scale_of_the_lora_is_put_back(pipe):
    """A scale that stays would weaken our own slider for every edit that follows."""
    before = [layer.scaling[ADAPTER] for layer in slider_layers(pipe.transformer)]
    with pytest.raises(RuntimeError), lora_scaled(pipe.transformer, 0.5):
        assert slider_layers(pipe.transformer)[0].scaling[ADAPTER] == 0.5 * before[0]
        raise RuntimeError("stopped")
    assert [layer.scaling[ADAPTER] for layer in slider_layers(pipe.transformer)] == before
