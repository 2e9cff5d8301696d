"""Concept sliders, on a tiny real-class pipeline."""

import json
import random

import numpy as np
import pytest
import torch

from kontext_slider.base_edit import BaseEdit
from kontext_slider.evaluate.baselines.lora import ConceptSlider
from kontext_slider.lora import take_lora
from kontext_slider.train.concept_slider import (
    ConceptConfig,
    concept_loss,
    draw_sources,
    train_concept_sliders,
)
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline


def test_the_loss_is_that_of_the_pair_of_opposites():
    """v* = v(no edit) + eta (v(instruction) - v(opposite)). Without a LoRA the model predicts v(no edit), so that
    the loss is the square of the rest."""
    pipe = tiny_pipeline(slider=False)
    edit, config = BaseEdit(pipe, tiny_image(), INSTRUCTION, 0, steps=1), ConceptConfig(opposite="melt it", eta=2.0)
    z = edit.noise.latents
    with torch.no_grad():
        loss = float(concept_loss(edit, config, random.Random(0)))
    difference = edit.velocity(z, 1.0, edit.text) - edit.velocity(z, 1.0, edit.encode_text("melt it"))
    assert loss == pytest.approx(float((2 * difference).square().mean()), rel=1e-4) and loss > 0


def test_a_trained_slider_comes_nearer_to_the_edit(tmp_path):
    """The wrong sign, or a LoRA that is off, trains without complaint and moves nothing."""
    pipe, image = tiny_pipeline(), tiny_image()
    before = take_lora(pipe.transformer)
    config = ConceptConfig(steps=40, rate=0.02)
    train_concept_sliders(pipe, [INSTRUCTION], config, tmp_path, [image])
    assert all(take_lora(pipe.transformer).tensors[name].equal(tensor) for name, tensor in before.tensors.items())
    edit = BaseEdit(pipe, image, INSTRUCTION, 0)
    full = edit.picture(edit.sample(edit.velocity_under(edit.text)))
    frames = ConceptSlider(folder=tmp_path, start=0.0, end=1.0)(pipe, image, INSTRUCTION, (0.0, 1.0), 0)
    assert np.abs(frames[1] - full).mean() < 0.7 * np.abs(frames[0] - full).mean()
    assert json.loads((tmp_path / "make-it-snow" / "concept.json").read_text())["instruction"] == INSTRUCTION


def test_sliders_that_are_there_are_not_trained_again(tmp_path, monkeypatch):
    """A run of hours that was stopped begins with what is missing; a folder without its last file is not whole."""
    asked, pipe = [], tiny_pipeline()
    weights = take_lora(pipe.transformer)
    module = "kontext_slider.train.concept_slider.train_concept_slider"
    monkeypatch.setattr(module, lambda pipe, instruction, *rest: asked.append(instruction) or weights)
    for instructions in (["a b"], ["a b", "c"]):
        train_concept_sliders(pipe, instructions, ConceptConfig(), tmp_path, [tiny_image()])
    (tmp_path / "c" / "concept.json").unlink()
    train_concept_sliders(pipe, ["A, b!", "c"], ConceptConfig(), tmp_path, [tiny_image()])
    assert asked == ["a b", "c", "c"]


def test_drawn_sources_show_what_the_instruction_names():
    """A slider of "make the lamp red" cannot be trained on scenes without a lamp."""
    sources = draw_sources("make the left lamp red", 32, 2, 0)
    assert len(sources) == 2 and sources[0].size == (32, 32) and sources[0] != sources[1]
    assert draw_sources("make the left lamp red", 32, 1, 0) != draw_sources("make it snow", 32, 1, 0)
