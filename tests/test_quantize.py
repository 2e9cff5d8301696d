"""Blocks in eight bits: less of them held, nearly the same frames, by every way that leads to one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch._inductor.config
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel

from kontext_slider import SliderEngine, memory
from kontext_slider.base.flux1_inference import can_be_copied
from kontext_slider.engine.model_hash import model_hash
from kontext_slider.errors import InvalidInput
from kontext_slider.memory import modulation_layers
from kontext_slider.presets import load_pipeline
from tests.engine.helpers import alike, held_bytes, reference
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline

pytest.importorskip("torchao")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole pipeline with its slider on disk."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return load_pipeline(str(folder), device="cpu")


@pytest.fixture(scope="module")
def small(folder):
    return load_pipeline(str(folder), device="cpu", quantize="int8")


def rms(first, second) -> float:
    return float(np.sqrt(np.mean((np.asarray(first, dtype=float) - np.asarray(second, dtype=float)) ** 2)))


def test_of_the_large_model_nine_gigabytes_stay():
    """A block that is left out of the quantization, or a 12 GB card that the rest does not fit on."""
    with init_empty_weights():
        transformer = FluxTransformer2DModel(guidance_embeds=True)  # FLUX.1 Kontext's sizes are the defaults
    away = {id(layer) for layer in modulation_layers(transformer)}
    linear = [m for m in transformer.modules() if isinstance(m, torch.nn.Linear) and id(m) not in away]
    assert sum(layer.weight.numel() for layer in linear) < 9e9  # bytes


def test_loading_leaves_the_compiler_as_it_was(small):
    """Everything compiled later in the process is tuned for minutes."""
    assert not torch._inductor.config.coordinate_descent_tuning


def test_all_matrices_but_the_modulations_are_int8(small):
    """Names that the library's quantizer does not match: nothing is small, or the modulations are."""
    modulations = {id(layer) for layer in modulation_layers(small.transformer)}
    for name, module in small.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name:
            assert (type(module.weight.data) is torch.Tensor) == (id(module) in modulations), name


@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_frames_are_nearly_those_of_the_whole_model(whole, small, speed):
    """Scales of the wrong axis; an engine that merges the LoRA into weights that cannot be added to."""
    assert can_be_copied(small.transformer)
    frames = [SliderEngine(p, speed=speed).open(tiny_image(), INSTRUCTION).render(0.7) for p in (whole, small)]
    untouched = SliderEngine(whole, speed=speed).open(tiny_image(), INSTRUCTION).render(0.1)
    assert 0 < rms(*frames) < 0.5 * rms(frames[0], untouched)


def test_the_engine_and_the_pipeline_agree(small):
    """Two roads to one frame, one of which forgets the slider."""
    session = SliderEngine(small).open(tiny_image(), INSTRUCTION)
    assert alike(session.render(0.7), reference(small, session, 0.7))


def test_int8_goes_with_low_vram(folder, small):
    """Hooks that cannot move what lies beside int8 weights, or move the wrong ones."""
    smaller = load_pipeline(str(folder), device="cpu", quantize="int8", low_vram=True)
    frames = [SliderEngine(p).open(tiny_image(), INSTRUCTION).render(0.7) for p in (small, smaller)]
    assert frames[0].tobytes() == frames[1].tobytes()
    assert held_bytes(smaller) < held_bytes(small)
    assert model_hash(smaller) == model_hash(small)


def test_the_hash_tells_the_two_apart(whole, small):
    """Frames of the whole model shown for the small one's."""
    assert model_hash(small) != model_hash(whole)


def test_the_rest_has_the_dtype_that_was_asked_for(folder):
    """The slider stays in the precision of its file and the first render fails on mixed types."""
    pipe = load_pipeline(str(folder), device="cpu", dtype="bfloat16", quantize="int8")
    assert {p.dtype for p in pipe.transformer.parameters()} == {torch.bfloat16}
    assert SliderEngine(pipe).open(tiny_image(), INSTRUCTION).render(0.5).size == (32, 32)


def test_what_cannot_be_done_is_said(folder, monkeypatch):
    """A traceback from inside the library."""
    with pytest.raises(InvalidInput, match="int8"):
        load_pipeline(str(folder), device="cpu", quantize="int3")
    monkeypatch.setattr(memory, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="pip install torchao"):
        load_pipeline(str(folder), device="cpu", quantize="int8")
