"""The first frame below strength 1 of a model that is held to the source: it needs the frame at 0, too."""

from __future__ import annotations

import pytest
import torch

from kontext_slider.engine import SliderEngine
from kontext_slider.engine.batch_size import BatchSize
from kontext_slider.engine.prepared import Prepared
from tests.engine.helpers import alike, reference
from tests.tiny import INSTRUCTION, tiny_image

STEPS = 3


@pytest.fixture
def anchored_pipe(pipe):
    pipe.register_to_config(edit_defaults={**pipe.config.edit_defaults, "anchor_source": True})
    return pipe


@pytest.fixture
def rows(monkeypatch):
    """How many frames every velocity was asked for."""
    asked, velocity = [], Prepared.velocity

    def noted(self, latents, table):
        answer = velocity(self, latents, table)
        asked.append(len(answer))
        return answer

    monkeypatch.setattr(Prepared, "velocity", noted)
    return asked


@pytest.mark.parametrize(("batch", "asked"), [(1, [1] * 2 * STEPS), (2, [2] * STEPS)])
def test_the_frame_at_zero_comes_in_the_same_batch_where_there_are_batches(anchored_pipe, rows, batch, asked):
    """Two passes one after the other on a device that makes two frames at once for little more than one."""
    engine = SliderEngine(anchored_pipe)
    engine.batch = BatchSize(batch)
    with engine.open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        frame = session.render(0.37)
        assert rows == asked
        assert alike(frame, reference(anchored_pipe, session, 0.37))
        rows.clear()
        session.render(0.61)
        assert rows == [1] * STEPS, "the frame at 0 is found once"


def test_a_full_strength_waits_for_no_frame_at_zero(anchored_pipe, rows):
    """The page shows strength 1 first, and nothing of it depends on the frame at 0."""
    with SliderEngine(anchored_pipe).open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        session.render(1.0)
    assert rows == [1] * STEPS


def test_a_device_without_room_for_two_makes_them_apart(anchored_pipe, monkeypatch):
    """A first frame that fails where one at a time would do."""
    engine, velocity = SliderEngine(anchored_pipe), Prepared.velocity
    engine.batch = BatchSize(2)

    def limited(self, latents, table):
        answer = velocity(self, latents, table)
        if len(answer) > 1:
            raise torch.OutOfMemoryError("too large")
        return answer

    monkeypatch.setattr(Prepared, "velocity", limited)
    with engine.open(tiny_image(), INSTRUCTION, steps=STEPS) as session:
        frame = session.render(0.37)
        assert alike(frame, reference(anchored_pipe, session, 0.37))
