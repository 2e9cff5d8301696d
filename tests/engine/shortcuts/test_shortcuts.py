"""Sweeps and frames at the speeds that are approximate, and an engine without the shortcuts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kontext_slider
from kontext_slider.engine import SliderEngine
from kontext_slider.engine.order import grid
from kontext_slider.engine.queue import BatchSize
from kontext_slider.engine.session import MAX_HELD
from kontext_slider.engine.shortcuts import streaming_order
from tests.engine.helpers import alike, note_renders, reference, same
from tests.tiny import INSTRUCTION, tiny_image


def test_a_fast_sweep_renders_less_and_stays_near(pipe, monkeypatch):
    """Interpolating what was interpolated, or more than may be."""
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    engine = SliderEngine(pipe, speed="fast")
    session, rendered = engine.open(tiny_image(), INSTRUCTION), note_renders(monkeypatch)
    frames = dict(session.sweep(41))
    assert list(frames) == [k / 40 for k in range(41)]
    assert 5 <= len(rendered) < 41
    for strength, frame in frames.items():
        difference = np.asarray(frame, dtype=float) - np.asarray(exact.render(strength), dtype=float)
        assert np.sqrt(np.mean(difference**2)) < 255 * 10 ** (-36 / 20), strength


@pytest.mark.parametrize(("degree", "num_rendered"), [(3, 5), (None, 6)])
def test_only_interactive_frames_of_a_polynomial_slider_cross_wide_gaps(pipe, monkeypatch, degree, num_rendered):
    """Across a bend of piecewise linear offsets neither the frame nor its error is known."""
    rendered = note_renders(monkeypatch)
    pipe.slider_projector.register_to_config(degree=degree)
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION, source_at_zero=False)
    list(session.sweep(5))
    frame = session.render(0.37)
    assert len(rendered) == num_rendered
    exact = SliderEngine(pipe).open(tiny_image(), INSTRUCTION).render(0.37)
    assert np.abs(np.asarray(frame, dtype=float) - np.asarray(exact, dtype=float)).mean() < 2
    rendered.clear()
    list(session.frames([0.63]))
    assert rendered == [0.63]


def test_the_source_is_a_finished_frame_where_a_model_is_corrected(pipe, monkeypatch):
    """An app never renders 0 there: the lowest strengths would have no frame below them and would be rendered."""
    rendered = note_renders(monkeypatch)
    pipe.slider_projector.register_to_config(degree=3)
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": True})
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    list(session.frames([1.0, 0.5, 0.2, 0.7]))
    session.render(0.1)
    session.render(0.37)
    assert set(rendered) == {1.0, 0.5, 0.2, 0.7}
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": False})
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    list(session.frames([1.0, 0.5, 0.2, 0.7]))
    session.render(0.1)
    assert 0.1 in rendered


def test_a_wide_batch_leaves_frames_that_can_be_interpolated(pipe, monkeypatch):
    """Eight frames at once are no gain where five of them can be interpolated from three."""
    rendered = note_renders(monkeypatch)
    engine = SliderEngine(pipe, speed="fastest")
    engine.batch = BatchSize(8)
    session, steps = engine.open(tiny_image(), INSTRUCTION, source_at_zero=False), []
    frames = dict(session.sweep(11, lambda step, total: steps.append((step, total))))
    assert list(frames) == [k / 10 for k in range(11)] and set(rendered) == {0.0, 0.5, 1.0}
    assert steps == sorted(steps) and steps[-1][0] <= steps[-1][1]


def test_a_frame_is_not_interpolated_from_frames_that_are_gone(pipe, monkeypatch):
    """A cache that let a neighbour go, and a frame of None."""
    engine = SliderEngine(pipe, 0, 0, 0, speed="fast")
    session = engine.open(tiny_image(), INSTRUCTION)
    for k in range(6):
        session.render(k / 5)
    rendered = note_renders(monkeypatch)
    assert session.render(0.5).size == session.size and rendered == [0.5]


def test_an_exact_engine_interpolates_nothing(pipe, monkeypatch):
    """The bound of "exact" is a rounding."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    rendered = note_renders(monkeypatch)
    list(session.sweep(21))
    assert alike(session.render(0.975), reference(pipe, session, 0.975)) and len(rendered) == 21


@pytest.mark.parametrize("n", [2, 3, 11, 21, 1001])
@pytest.mark.parametrize("descending", [False, True])
def test_few_frames_are_made_before_it_is_their_turn(n, descending):
    """Half of a long sweep, held in memory until the frames before it were there."""
    wanted = sorted(grid(n), reverse=descending)
    order = streaming_order(wanted, leading=2)
    assert sorted(order) == grid(n) and order[:2] == wanted[:2]
    waiting, due, most = set(), iter(wanted), 0
    strength = next(due)
    for made in order:
        waiting.add(made)
        most = max(most, len(waiting))
        while strength in waiting:
            waiting.remove(strength)
            strength = next(due, None)
    assert most <= np.log2(n) + 2


def test_any_list_of_strengths_is_ordered():
    """An order for sweeps only, which loses or repeats some of a list."""
    assert streaming_order([]) == [] and streaming_order([0.7]) == [0.7]
    assert streaming_order([0.5, 0.9, 0.1, 0.3]) == [0.5, 0.9, 0.1, 0.3]
    assert streaming_order([0.5, 0.3, 0.9, 0.1], leading=2) == [0.5, 0.3, 0.9, 0.1]


@pytest.mark.parametrize(("speed_name", "most"), [("exact", 2), ("fast", 2), ("fastest", 3)])
def test_the_second_frame_of_a_sweep_comes_early(pipe, monkeypatch, speed_name, most):
    """A fast sweep of 21 gave its second frame when three quarters of its work were done."""
    session = SliderEngine(pipe, speed=speed_name).open(tiny_image(), INSTRUCTION)
    rendered = note_renders(monkeypatch)
    sweep = session.sweep(21)
    next(sweep), next(sweep)
    assert len(rendered) <= most


@pytest.mark.parametrize("strengths", [grid(1001), np.random.default_rng(0).permutation(grid(301)).tolist()])
def test_a_sweep_holds_few_frames(pipe, monkeypatch, strengths):
    """A strip of a thousand frames of a large picture, held in memory until its second frame was there."""
    engine = SliderEngine(pipe, frame_cache_bytes=20 * 4 * 32 * 32, speed="fastest")
    session, made, most = engine.open(tiny_image(), INSTRUCTION, size=32, steps=1), [], 0
    copy = Image.Image.copy

    def noted(frame):
        answer = copy(frame)
        made.append(weakref.ref(answer))
        return answer

    monkeypatch.setattr(Image.Image, "copy", noted)
    num_frames = 0
    for _ in session.frames(strengths):
        num_frames += 1
        made[:] = [frame for frame in made if frame() is not None]
        most = max(most, len(made))
    assert num_frames == len(strengths) and most <= MAX_HELD + 2


def test_the_same_frame_twice_in_a_list_of_strengths(pipe):
    """A frame handed out once and then missing."""
    session = SliderEngine(pipe, speed="fast").open(tiny_image(), INSTRUCTION)
    frames = [frame for _, frame in session.frames([0.5, 0.0, 0.5])]
    assert same(frames[0], frames[2]) and not same(frames[0], frames[1])


def test_without_their_folder_the_engine_renders_exact_frames(tmp_path):
    """The folder can be deleted; an import of it anywhere else breaks the whole engine."""
    package = Path(kontext_slider.__file__).parent
    shutil.copytree(package, tmp_path / "kontext_slider", ignore=shutil.ignore_patterns("shortcuts", "__pycache__"))
    shutil.copytree(package.parent / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    program = """
import kontext_slider
from kontext_slider.engine import SliderEngine
from kontext_slider.errors import InvalidInput
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline
pipe = tiny_pipeline()
with SliderEngine(pipe).open(tiny_image(), INSTRUCTION, steps=2) as session:
    frame = session.render(0.5)
    assert [s for s, _ in session.sweep(3)] == [0, 0.5, 1]
print(kontext_slider.__file__, frame.size)
try:
    SliderEngine(pipe, speed="fast")
except InvalidInput as error:
    print(error)
"""
    run = [sys.executable, "-c", program]
    answer = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert answer.returncode == 0, answer.stderr
    where, sentence = answer.stdout.strip().splitlines()
    assert where.startswith(str(tmp_path)) and where.endswith("(32, 32)") and "shortcuts" in sentence
