"""Speeds: what is off by a stated bound, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.commands import options
from kontext_slider.engine import SliderEngine, speed
from kontext_slider.engine.between import interpolate, lagrange, neighbours
from kontext_slider.engine.order import coarse_first
from kontext_slider.errors import InvalidInput
from tests.engine.helpers import alike, reference, same
from tests.tiny import INSTRUCTION, tiny_image


def flat(level: float) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), round(255 * level), dtype=np.uint8))


def test_an_unknown_speed_is_an_error(pipe):
    """A typing error that means "exact"."""
    with pytest.raises(InvalidInput, match="exact, fast, fastest"):
        SliderEngine(pipe, speed="faster")


def test_the_command_line_knows_all_speeds():
    """A speed that no flag reaches."""
    assert options.SPEEDS == speed.NAMES


def test_a_processor_without_bfloat16_keeps_the_models_precision(monkeypatch):
    """Emulated, half precision is slower than none."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert speed.find_speed("fast", torch.device("cpu")).dtype is None
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert speed.find_speed("fast", torch.device("cpu")).dtype is torch.bfloat16
    assert speed.find_speed("exact", torch.device("cpu")).dtype is None


def test_a_gpu_copies_no_weights():
    """A second copy of twelve billion weights does not fit beside the first."""
    assert not any(speed.find_speed(name, torch.device("cuda")).joined for name in speed.NAMES)


def test_frames_of_two_speeds_are_kept_apart(pipe):
    """A fast frame is served as an exact one, from memory or from disk."""
    fast, exact = (SliderEngine(pipe, speed=name).open(tiny_image(), INSTRUCTION) for name in ("fast", "exact"))
    assert fast._key(0.5) != exact._key(0.5)


def test_weights_of_lagrange_are_exact_for_cubics():
    """A weight in the wrong place interpolates lines well and curves badly."""
    nodes = [0.1, 0.25, 0.4, 0.8]
    cubic = [2 * s**3 - s**2 + 0.5 * s - 3 for s in nodes]
    assert np.dot(lagrange(nodes, 0.3), cubic) == pytest.approx(2 * 0.3**3 - 0.3**2 + 0.15 - 3, abs=1e-5)
    assert lagrange(nodes, 0.25).tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)


def test_neighbours_are_near_and_on_both_sides():
    """Beyond the ends a polynomial runs away, and across a wide gap it knows nothing."""
    assert neighbours([0.0, 0.2, 0.4, 0.6, 0.8], 0.45, 0.25) == [0.4, 0.6, 0.2, 0.8]
    assert neighbours([0.4, 0.6], 0.5, 0.25) == []  # nothing to estimate the error by
    assert neighbours([0.0, 0.5, 1.0], 0.4, 0.25) == []  # too far apart
    assert neighbours([0.5, 0.6, 0.7], 0.4, 0.25) == [] and neighbours([0.1, 0.2, 0.3], 0.4, 0.25) == []


def test_a_smooth_way_is_interpolated_and_a_jump_is_not():
    """Half of an object that is there at once and not before: a ghost."""
    smooth = {s: flat(0.2 + 0.4 * s**2) for s in (0.4, 0.6, 0.2, 0.8)}
    frame = interpolate(smooth, 0.5, 44.0)
    assert frame is not None and abs(np.asarray(frame).mean() / 255 - 0.3) < 0.004
    jump = {s: flat(0.2 if s < 0.5 else 0.5) for s in (0.4, 0.6, 0.2, 0.8)}
    assert interpolate(jump, 0.5, 44.0) is None


def test_a_fast_sweep_renders_less_and_stays_near(pipe, monkeypatch):
    """Interpolating what was interpolated, or more than may be."""
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    engine = SliderEngine(pipe, speed="fast")
    session, rendered = engine.open(tiny_image(), INSTRUCTION), []
    render = session._renderer.render
    monkeypatch.setattr(
        session._renderer, "render", lambda strengths, *rest: (rendered.extend(strengths), render(strengths, *rest))[1]
    )
    frames = dict(session.sweep(41))
    assert list(frames) == [k / 40 for k in range(41)]
    assert 5 <= len(rendered) < 41 and set(rendered) == session._rendered
    for strength, frame in frames.items():
        difference = np.asarray(frame, dtype=float) - np.asarray(exact.render(strength), dtype=float)
        assert np.sqrt(np.mean(difference**2)) < 255 * 10 ** (-36 / 20), strength


def test_a_frame_is_not_interpolated_from_frames_that_are_gone(pipe):
    """A cache that let a neighbour go, and a frame of None."""
    engine = SliderEngine(pipe, 0, 0, 0, speed="fast")
    session = engine.open(tiny_image(), INSTRUCTION)
    for k in range(6):
        session.render(k / 5)
    assert session._between(0.5) is None and session.render(0.5).size == session.size


def test_an_exact_engine_interpolates_nothing(pipe):
    """The bound of "exact" is a rounding."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    list(session.sweep(21))
    assert alike(session.render(0.975), reference(pipe, session, 0.975)) and len(session._rendered) == 22


def test_strengths_are_halved_whatever_they_are():
    """An order for evenly spaced strengths only would lose or repeat some of a list."""
    assert coarse_first([0.9, 0.1, 0.3]) == [0.1, 0.9, 0.3]
    assert coarse_first([]) == [] and coarse_first([0.7]) == [0.7] and coarse_first([0.7, 0.2]) == [0.2, 0.7]
    assert sorted(coarse_first([k / 30 for k in range(31)])) == [k / 30 for k in range(31)]


def test_the_same_frame_twice_in_a_list_of_strengths(pipe):
    """A frame handed out once and then missing."""
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    frames = [frame for _, frame in session.frames([0.5, 0.0, 0.5])]
    assert same(frames[0], frames[2]) and not same(frames[0], frames[1])
