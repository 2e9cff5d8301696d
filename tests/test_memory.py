"""Small devices: weights that are moved to them when needed, and blocks in int8. The frames are (nearly) the same."""

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
from kontext_slider.memory import WORKING_BYTES, has_room, modulation_layers, place_with_low_vram
from kontext_slider.presets import load_pipeline
from tests.engine.helpers import alike, held_bytes, reference
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline, tiny_projector

CPU = torch.device("cpu")


def numel(modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture
def small():
    """The pipeline of the `pipe` fixture, placed with low VRAM."""
    return place_with_low_vram(tiny_pipeline(), CPU)


def test_of_the_large_model_a_quarter_may_leave():
    """A list that misses the single blocks, or a 24 GB card that the rest does not fit on."""
    with init_empty_weights():
        transformer = FluxTransformer2DModel(guidance_embeds=True)  # FLUX.1 Kontext's sizes are the defaults
    total, away = numel([transformer]), numel(modulation_layers(transformer))
    assert away / total == pytest.approx(0.27, abs=0.005)
    assert 2 * (total - away) < 18e9  # bytes in bfloat16
    modulations = {id(layer) for layer in modulation_layers(transformer)}
    linear = [m for m in transformer.modules() if isinstance(m, torch.nn.Linear) and id(m) not in modulations]
    assert sum(layer.weight.numel() for layer in linear) < 9e9  # bytes in int8


def test_encoders_and_modulations_are_not_held(pipe, small):
    """Weights that are copied to the device and stay."""
    away = numel([pipe.text_encoder, pipe.text_encoder_2, *modulation_layers(pipe.transformer)])
    assert held_bytes(small) == held_bytes(pipe) - 4 * away
    SliderEngine(small).open(tiny_image(), INSTRUCTION).render(0.5)
    assert held_bytes(small) == held_bytes(pipe) - 4 * away


def test_frames_are_the_same_to_the_last_bit(pipe, small):
    """A weight that is moved for another layer, or a plain call that finds none."""
    assert can_be_copied(small.transformer)
    sessions = [SliderEngine(p).open(tiny_image(), INSTRUCTION) for p in (pipe, small)]
    first, second = (session.render(0.7) for session in sessions)
    assert first.tobytes() == second.tobytes()
    assert alike(second, reference(small, sessions[1], 0.7))


def test_new_strengths_of_an_edit_move_no_weights(small, monkeypatch):
    """Gigabytes on the way to the device at every move of the slider."""
    session = SliderEngine(small).open(tiny_image(), INSTRUCTION)
    session.render(0.5)
    moved: list[torch.nn.Module] = []
    for layer in modulation_layers(small.transformer):
        monkeypatch.setattr(layer._hf_hook, "pre_forward", lambda module, *_, **__: moved.append(module))
    session.render(0.6)
    assert not moved


def test_modulations_stay_where_every_strength_needs_them():
    """A slider whose offsets go before the modulation layers asks them for every strength."""
    pipe = tiny_pipeline()
    pipe.register_modules(slider_projector=tiny_projector(place="time_text_embed"))
    place_with_low_vram(pipe, CPU)
    assert all(p.device == CPU for layer in modulation_layers(pipe.transformer) for p in layer.parameters())


def test_the_hash_is_that_of_the_same_weights_elsewhere(pipe, small):
    """Frames on disk are not found again, or the hash is of nothing."""
    assert model_hash(small) == model_hash(pipe)


def test_copies_are_made_where_there_is_room(monkeypatch):
    """A second copy of twelve billion weights on a card that the first fills, or with low VRAM."""
    pipe, free = tiny_pipeline(), 0
    needed = 4 * (numel([pipe.transformer]) - numel(modulation_layers(pipe.transformer)))
    assert has_room(pipe.transformer)
    on_gpu = property(lambda transformer: torch.device("cuda"))
    monkeypatch.setattr(FluxTransformer2DModel, "device", on_gpu)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    free = needed + WORKING_BYTES - 30
    assert not has_room(pipe.transformer)
    free += 1
    assert has_room(pipe.transformer)
    assert not has_room(place_with_low_vram(pipe, CPU).transformer)


def test_a_device_of_unknown_memory_gets_no_copies(pipe):
    """Apple's, which torch does not ask."""
    assert not has_room(pipe.transformer.to("meta"))


# ---- int8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole pipeline with its slider on disk, where its blocks can be quantized."""
    pytest.importorskip("torchao")
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return load_pipeline(str(folder), device="cpu")


@pytest.fixture(scope="module")
def int8(folder):
    return load_pipeline(str(folder), device="cpu", quantize="int8")


def rms(first, second) -> float:
    return float(np.sqrt(np.mean((np.asarray(first, dtype=float) - np.asarray(second, dtype=float)) ** 2)))


def test_loading_leaves_the_compiler_as_it_was(int8):
    """Everything compiled later in the process is tuned for minutes."""
    assert not torch._inductor.config.coordinate_descent_tuning


def test_all_matrices_but_the_modulations_are_int8(int8):
    """Names that the library's quantizer does not match: nothing is small, or the modulations are."""
    modulations = {id(layer) for layer in modulation_layers(int8.transformer)}
    for name, module in int8.transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora_" not in name:
            assert (type(module.weight.data) is torch.Tensor) == (id(module) in modulations), name


@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_frames_are_nearly_those_of_the_whole_model(whole, int8, speed):
    """Scales of the wrong axis; an engine that merges the LoRA into weights that cannot be added to."""
    assert can_be_copied(int8.transformer)
    frames = [SliderEngine(p, speed=speed).open(tiny_image(), INSTRUCTION).render(0.7) for p in (whole, int8)]
    untouched = SliderEngine(whole, speed=speed).open(tiny_image(), INSTRUCTION).render(0.1)
    assert 0 < rms(*frames) < 0.5 * rms(frames[0], untouched)


def test_the_int8_engine_and_its_pipeline_agree(int8):
    """Two roads to one frame, one of which forgets the slider."""
    session = SliderEngine(int8).open(tiny_image(), INSTRUCTION)
    assert alike(session.render(0.7), reference(int8, session, 0.7))


def test_int8_goes_with_low_vram(folder, whole, int8):
    """Hooks that cannot move what lies beside int8 weights, or move the wrong ones."""
    smaller = load_pipeline(str(folder), device="cpu", quantize="int8", low_vram=True)
    frames = [SliderEngine(p).open(tiny_image(), INSTRUCTION).render(0.7) for p in (int8, smaller)]
    assert frames[0].tobytes() == frames[1].tobytes()
    assert held_bytes(smaller) < held_bytes(int8)
    assert model_hash(smaller) == model_hash(int8) != model_hash(whole)  # or frames of one are shown for the other's


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
