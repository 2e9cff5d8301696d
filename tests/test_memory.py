"""A pipeline whose rarely needed weights are moved to the device only when needed: less of it held, the same frames."""

from __future__ import annotations

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel

from kontext_slider import SliderEngine
from kontext_slider.base.flux1_inference import can_be_copied
from kontext_slider.engine.model_hash import model_hash
from kontext_slider.memory import WORKING_BYTES, has_room, modulation_layers, place_with_low_vram
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
