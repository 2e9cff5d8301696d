"""Frames computed where the edit is: the same picture there, both ends' mixture elsewhere, and less work."""

from __future__ import annotations

import pytest
import torch

from kontext_slider.engine import SliderEngine, render
from kontext_slider.engine.cache import ByteCache
from kontext_slider.engine.prepared import Prepared
from kontext_slider.engine.region import Part, Region
from kontext_slider.engine.session import EditSettings
from kontext_slider.engine.trail import Trail
from tests.engine.helpers import alike
from tests.tiny import INSTRUCTION, tiny_image

GRID, STEPS = (4, 6), 4


def region(threshold: float | None = 0.1, max_bytes: int = 10**6) -> Region:
    settings = EditSettings("digest", (96, 64), INSTRUCTION, 16, 0, STEPS, 2.5, "fast")
    return Region(Trail(ByteCache(max_bytes), settings), GRID, STEPS, threshold)


def ends(*changed: tuple[int, int]) -> torch.Tensor:
    """Latents (2, 24, 3) of strengths 0 and 1 that differ in these tokens."""
    latents = torch.zeros(2, *GRID, 3)
    for row, column in changed:
        latents[1, row, column] = 1
    return latents.flatten(1, 2)


def test_the_region_is_what_changes_and_its_neighbours():
    """Rows taken for columns, or the edge of an object that moves cut off."""
    place = region()
    assert place.find() is None
    place.keep([0.0, 1.0], ends((1, 4)))
    assert place.find().tokens.tolist() == [6 * row + column for row in (0, 1, 2) for column in (3, 4, 5)]


@pytest.mark.parametrize(
    ("threshold", "changed"),
    [(None, [(1, 4)]), (0.1, []), (0.1, [(row, column) for row in range(4) for column in range(6)])],
)
def test_no_region_where_none_pays(threshold, changed):
    """Exact frames with a seam, or a transformer that is asked for no tokens."""
    place = region(threshold)
    place.keep([0.0, 1.0], ends(*changed))
    assert place.find() is None


def test_frames_between_the_ends_are_no_ends():
    """A region found from strength .5 leaves out what changes later."""
    place = region()
    place.keep([0.0, 0.5], ends((1, 4)))
    assert place.find() is None


def test_outside_stands_a_mixture_of_both_ends():
    """A frame with the tokens of another strength around its edit."""
    place, part = region(), torch.full((2, 9, 3), 5.0)
    latents = ends((1, 4))
    latents[1, 23] = 0.09  # too little to count
    place.keep([0.0, 1.0], latents)
    found = place.find()
    filled = found.filled(part, [0.5, 1.0], found.finished)
    assert (filled[:, found.tokens] == 5).all() and filled[0, 23].tolist() == pytest.approx([0.045] * 3)
    assert filled[1, 23].tolist() == pytest.approx([0.09] * 3) and (filled[:, 22] == 0).all()
    assert place.ends(2) is None  # nobody saw them there


def test_an_end_that_the_cache_let_go_is_no_end():
    """A mixture with nothing."""
    place = region(max_bytes=ends()[:1].nbytes)
    place.keep([0.0, 1.0], ends((1, 4)))
    assert place.find() is None


@pytest.fixture
def session(pipe):
    """Both ends rendered, of 32 x 48 pixels, in four steps."""
    opened = SliderEngine(pipe, speed="fast").open(tiny_image(48, 32), INSTRUCTION, steps=STEPS, size=40)
    opened.render(1.0)
    opened.render(0.0)
    return opened


def force(monkeypatch, session, tokens: torch.Tensor) -> list[int]:
    """Make `tokens` the region; what is returned collects how many target tokens each step is asked for."""
    seen: list[int] = []
    velocity = Prepared.velocity
    place = session._renderer._region
    part = Part(tokens, place.ends(STEPS))
    monkeypatch.setattr(place, "find", lambda: part)

    def counted(self, z: torch.Tensor, table) -> torch.Tensor:
        seen.append(z.shape[1])
        return velocity(self, z, table)

    monkeypatch.setattr(Prepared, "velocity", counted)
    return seen


def test_a_region_of_all_tokens_changes_nothing(pipe, session, monkeypatch):
    """Positions or noise of the wrong tokens."""
    num_tokens = session._renderer._edit.noise.shape[1]
    expected = SliderEngine(pipe, speed="fast").open(tiny_image(48, 32), INSTRUCTION, steps=STEPS, size=40).render(0.4)
    seen = force(monkeypatch, session, torch.arange(num_tokens))
    assert alike(session.render(0.4), expected) and seen == [num_tokens] * STEPS


def test_a_step_sees_the_tokens_of_the_region_only(session, monkeypatch):
    """A region that saves nothing, or a picture that changes outside of it."""
    trail, columns = session._renderer._region._trail, session._renderer._region._grid[1]
    zero, one = (trail.get(strength, STEPS) for strength in (0.0, 1.0))
    decoded: list[torch.Tensor] = []
    decode = render.decode
    monkeypatch.setattr(render, "decode", lambda pipe, z, size: (decoded.append(z), decode(pipe, z, size))[1])
    seen = force(monkeypatch, session, torch.arange(columns))  # the upper row
    session.render(0.4)
    assert seen == [columns] * STEPS and decoded[0].shape == one.shape
    torch.testing.assert_close(decoded[0][:, columns:], (0.6 * zero + 0.4 * one)[:, columns:])
    assert not torch.allclose(decoded[0][:, :columns], (0.6 * zero + 0.4 * one)[:, :columns], atol=1e-4)


def test_late_starts_know_the_whole_picture(session, monkeypatch):
    """Latents of a part of the tokens are interpolated with those of all."""
    num_tokens = session._renderer._edit.noise.shape[1]
    seen = force(monkeypatch, session, torch.arange(num_tokens // 2))
    for strength in (0.2, 0.5, 0.7):
        session.render(strength)
    del seen[:]
    session.render(0.35)
    assert seen == [num_tokens // 2]  # of the last step
