"""Sampling: residual corrected frames, batches, memory that runs short, and transformers that are more than plain."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import LoraConfig

from kontext_slider.engine import SliderEngine
from kontext_slider.engine.queue import NUM_GOOD, BatchSize
from kontext_slider.errors import InvalidInput
from tests.engine.helpers import alike, note_renders, note_velocities, reference
from tests.tiny import INSTRUCTION, shake, tiny_image

STEPS = 3


@pytest.fixture
def corrected_pipe(pipe):
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": True})
    return pipe


@pytest.fixture
def rows(monkeypatch):
    return note_velocities(monkeypatch)


@pytest.mark.parametrize(("batch", "asked"), [(1, [1] * 2 * STEPS), (2, [2] * STEPS)])
def test_the_frame_at_zero_comes_in_the_same_batch_where_there_are_batches(corrected_pipe, rows, batch, asked):
    """Two passes one after the other on a device that makes two frames at once for little more than one."""
    engine = SliderEngine(corrected_pipe)
    engine.batch = BatchSize(batch)
    with engine.open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        frame = session.render(0.37)
        assert rows == asked
        assert alike(frame, reference(corrected_pipe, session, 0.37))
        rows.clear()
        session.render(0.61)
        assert rows == [1] * STEPS, "the frame at 0 is found once"


def test_a_full_strength_waits_for_no_frame_at_zero(corrected_pipe, rows):
    """The page shows strength 1 first, and nothing of it depends on the frame at 0."""
    with SliderEngine(corrected_pipe).open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        session.render(1.0)
    assert rows == [1] * STEPS


def test_a_device_without_room_for_two_makes_them_apart(corrected_pipe, monkeypatch):
    """A first frame that fails where one at a time would do."""
    engine = SliderEngine(corrected_pipe)
    engine.batch = BatchSize(2)
    note_velocities(monkeypatch, lambda rows: rows == 1)
    with engine.open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        frame = session.render(0.37)
        assert alike(frame, reference(corrected_pipe, session, 0.37))


def _cast_by_layers(pipe):
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


def _offload_in_groups(pipe):
    pipe.transformer.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


def _other_lora(pipe):
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["attn.to_q"]), "other")


@pytest.mark.parametrize("change", [_cast_by_layers, _offload_in_groups])
def test_frames_of_weights_that_diffusers_keeps_elsewhere(pipe, change):
    """A product with weights that are float8, or on another device, is an error at the first frame."""
    change(pipe)
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    assert alike(session.render(0.5), reference(pipe, session, 0.5))


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_another_lora_is_in_the_frames(pipe):
    """As before, from end to end: the frame with a second adapter is the pipeline's own."""
    engine = SliderEngine(pipe)
    without = engine.open(tiny_image(), INSTRUCTION).render(0.5)
    _other_lora(pipe)
    shake([p for name, p in pipe.transformer.named_parameters() if ".other." in name], 0.3)
    engine.clear()
    session = engine.open(tiny_image(), INSTRUCTION)
    frame = session.render(0.5)
    assert alike(frame, reference(pipe, session, 0.5)) and not alike(frame, without)


def test_an_open_session_follows_new_weights_after_clear(pipe):
    """What was prepared of the old slider goes on being used."""
    engine = SliderEngine(pipe)
    session = engine.open(tiny_image(), INSTRUCTION)
    before = session.render(0.5)
    shake(pipe.slider_parameters(), 0.3)
    engine.clear()
    after = session.render(0.5)
    assert not alike(before, after) and alike(after, reference(pipe, session, 0.5))


def test_a_sweep_in_batches_has_the_frames_of_one_at_a_time(pipe):
    """Rows of a batch that are mixed up, or an offset of the first frame for all."""
    single, several = SliderEngine(pipe), SliderEngine(pipe)
    several.batch = BatchSize(3)
    frames = [
        [frame for _, frame in engine.open(tiny_image(), INSTRUCTION, steps=2).sweep(8)] for engine in (single, several)
    ]
    assert all(alike(a, b) for a, b in zip(*frames, strict=True))
    assert len({frame.tobytes() for frame in frames[1]}) == 8


def test_a_batch_counts_its_steps(pipe):
    """A progress bar that ends at an eighth."""
    engine, steps = SliderEngine(pipe), []
    engine.batch = BatchSize(3)
    list(engine.open(tiny_image(), INSTRUCTION, steps=2).sweep(5, lambda *step: steps.append(step)))
    assert steps == [(3, 8), (6, 8), (7, 8), (8, 8)], "strength 0 takes no step"


def test_frames_that_take_no_step_count_as_done(pipe, monkeypatch):
    """A progress bar that stops at a third, as the other frames were interpolated."""
    engine, steps, rendered = SliderEngine(pipe, speed="fastest"), [], note_renders(monkeypatch)
    session = engine.open(tiny_image(), INSTRUCTION, steps=4)
    list(session.sweep(9, lambda *step: steps.append(step)))
    assert len(rendered) < 9, "nothing was interpolated"
    assert steps[-1] == (32, 32) and steps == sorted(set(steps))


def test_a_batch_that_is_too_large_is_halved(pipe, monkeypatch):
    """A sweep that fails on a small card, or fails anew at every group."""
    tried, engine = note_velocities(monkeypatch, lambda rows: rows == 1), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        frames = [frame for _, frame in session.sweep(5)]
        assert tried == [4, 2, 1, 1, 2, 1, 1]
        monkeypatch.undo()
        assert all(alike(frame, reference(pipe, session, k / 4)) for k, frame in enumerate(frames))


def test_one_failure_for_want_of_memory_does_not_last(pipe, monkeypatch):
    """A neighbour took the memory for a moment, and every later sweep of the engine was made one by one."""
    failures = iter([False])
    tried, engine = note_velocities(monkeypatch, lambda rows: next(failures, True)), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        assert len(list(session.sweep(49))) == 49
    assert tried[:3] == [4, 2, 2] and tried.count(2) == NUM_GOOD and set(tried[NUM_GOOD + 1 :]) == {4}


def test_a_lasting_want_of_memory_is_tried_ever_more_seldom(pipe, monkeypatch):
    """A batch that never fits and costs its failure every few frames."""
    tried, engine = note_velocities(monkeypatch, lambda rows: rows < 4), SliderEngine(pipe)
    engine.batch = BatchSize(4)
    with engine.open(tiny_image(), INSTRUCTION, steps=1) as session:
        list(session.sweep(100))
    failures = [place for place, num in enumerate(tried) if num == 4]
    assert failures[:3] == [0, NUM_GOOD + 1, 3 * NUM_GOOD + 2] and len(failures) == 3


def test_memory_that_one_frame_lacks_is_an_error(pipe, monkeypatch):
    """Halving nothing for ever."""
    session = SliderEngine(pipe).open(tiny_image(), INSTRUCTION)
    note_velocities(monkeypatch, lambda rows: False)
    with pytest.raises(torch.OutOfMemoryError):
        session.render(0.5)


def test_without_a_compiler_it_says_so(pipe, monkeypatch):
    """Pages of a compiler's traceback at the first frame."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InvalidInput, match="compiler"):
        SliderEngine(pipe, compiled=True)


@pytest.mark.slow
def test_an_engine_that_compiles_makes_the_same_frames(pipe, monkeypatch):
    """The switch is taken and nothing is compiled, or a second picture's size is not."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    engines = SliderEngine(pipe), SliderEngine(pipe, compiled=True)
    torch._dynamo.utils.counters.clear()
    for size in ((40, 24), (24, 40)):
        assert alike(*(engine.open(tiny_image(*size), INSTRUCTION, size=32).render(0.7) for engine in engines))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
