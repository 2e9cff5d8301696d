"""Speeds: what is off by a stated bound, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kontext_slider.edit import SPEED_NAMES
from kontext_slider.engine import SliderEngine, speed
from kontext_slider.engine.speed import FP8
from kontext_slider.errors import InvalidInput
from tests.tiny import INSTRUCTION, tiny_image


def test_an_unknown_speed_is_an_error(pipe):
    """A typing error that means "exact"."""
    with pytest.raises(InvalidInput, match="exact, fast, fastest"):
        SliderEngine(pipe, speed="faster")


def test_a_processor_without_bfloat16_keeps_the_models_precision(monkeypatch):
    """Emulated, half precision is slower than none."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert speed.find_speed("fastest", torch.device("cpu")).dtype is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = [speed.find_speed(name, torch.device("cpu")).dtype for name in SPEED_NAMES]
    assert found == [None, None, torch.bfloat16]


def test_a_large_model_on_a_gpu_is_compiled_for_fp8(monkeypatch):
    """fp8 that a GPU emulates or that makes a fast strip rough, or a first frame that waits half a minute for a
    compiler which pays for it after two."""
    gpu, large = torch.device("cuda"), 12_000_000_000
    monkeypatch.setattr(speed, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    found = [speed.find_speed(name, gpu, large) for name in SPEED_NAMES]
    assert [one.dtype for one in found] == [None, None, FP8]
    assert [one.compiled for one in found] == [False, False, True]
    small = speed.find_speed("fastest", gpu, 6_000_000)
    assert small.dtype is None and not small.compiled
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert speed.find_speed("fastest", gpu, large) == replace(found[2], dtype=None)


def test_a_speed_is_compiled_unless_somebody_says_no_or_there_is_no_compiler(pipe, monkeypatch):
    """An error at the first frame for something that nobody asked for."""
    compiled = replace(speed.SPEEDS["cpu"]["exact"], compiled=True)
    monkeypatch.setitem(speed.SPEEDS["cpu"], "exact", compiled)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert SliderEngine(pipe).speed.compiled and not SliderEngine(pipe, compiled=False).speed.compiled
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not SliderEngine(pipe).speed.compiled
    monkeypatch.setattr("shutil.which", lambda name: name)
    pipe.transformer.is_quantized = True  # what that gains is not known
    assert not SliderEngine(pipe).speed.compiled and SliderEngine(pipe, compiled=True).speed.compiled


def test_fp8_needs_a_compiler_and_torchao(pipe, monkeypatch):
    """Every token is measured before every product, in kernels of their own: slower than the model's own products."""
    monkeypatch.setitem(speed.SPEEDS["cpu"], "fastest", speed.SPEEDS["gpu, large model"]["fastest"])
    monkeypatch.setattr(speed, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert [SliderEngine(pipe, speed="fastest", compiled=how).speed.dtype for how in (None, False)] == [FP8, None]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(speed, "find_spec", lambda name: None)
    assert not speed.multiplies_fp8(torch.device("cuda"))


def test_frames_of_two_speeds_are_kept_apart(pipe):
    """A fast frame is served as an exact one, from memory or from disk."""
    fast, exact = (SliderEngine(pipe, speed=name).open(tiny_image(), INSTRUCTION) for name in ("fast", "exact"))
    assert fast.settings != exact.settings


def test_a_frame_of_another_versions_fast_is_not_served(pipe, tmp_path):
    """A folder outlives the version that wrote it, and a speed's name means other bounds in the next."""
    engine = SliderEngine(pipe, frame_folder=tmp_path, speed="fast")
    engine.open(tiny_image(), INSTRUCTION).render(0.5)
    again, later = (SliderEngine(pipe, frame_folder=tmp_path, speed="fast") for _ in range(2))
    later.speed = replace(engine.speed, shortcuts=replace(engine.speed.shortcuts, start_error=0.1))
    assert again.open(tiny_image(), INSTRUCTION).has(0.5)
    assert not later.open(tiny_image(), INSTRUCTION).has(0.5)
