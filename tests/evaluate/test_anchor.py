"""The anchor told apart from the slider, on a tiny real-class pipeline."""

import numpy as np
import pytest
import torch

from kontext_slider.evaluate.anchor import UnderAnchor, anchored, untrained, with_anchor, with_defaults
from kontext_slider.evaluate.baselines import BASELINES, ours
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import psnr
from tests.tiny import INSTRUCTION, tiny_image, tiny_pipeline

STRENGTHS = (0.0, 0.25, 1.0)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def frames_of(method, pipe):
    return method(pipe, tiny_image(), INSTRUCTION, STRENGTHS, 0)


def test_the_anchor_alone_is_the_pixel_cross_fade(pipe):
    """A gain that an untrained slider has as well was called the slider's."""
    faded, alone = (frames_of(method, pipe) for method in (BASELINES["pixel-cross-fade"], untrained))
    assert np.abs(np.clip(faded, 0, 1) - np.array(alone)).max() < 1e-5
    assert np.abs(faded[0] - faded[2]).max() > 0.02


def test_a_slider_of_fewer_steps_is_compared_with_the_base_at_its_own(pipe):
    """A slider trained for one step gained over a base that was not."""
    one = with_defaults(pipe, steps=1, base_steps=2)
    faded, alone = (frames_of(method, one) for method in (BASELINES["pixel-cross-fade"], untrained))
    assert np.abs(np.clip(faded, 0, 1) - np.array(alone)).max() < 1e-5
    assert np.array_equal(faded, frames_of(BASELINES["pixel-cross-fade"], pipe)) and pipe.defaults.steps == 2
    assert np.abs(np.array(frames_of(ours, one)) - frames_of(ours, pipe)).max() > 0.01


def test_the_slider_comes_back_after_the_untrained_one(pipe):
    """Rows after it would all be rows of no slider."""
    before = frames_of(ours, pipe)
    frames_of(untrained, pipe)
    assert np.array_equal(before, frames_of(ours, pipe))


def test_the_anchor_of_a_sweep_is_the_pipelines_own(pipe):
    """Baselines with another anchor than ours has would be worse, or better, for that alone."""
    own = frames_of(ours, with_anchor(pipe, True))
    plain = frames_of(ours, with_anchor(pipe, False))
    assert not np.allclose(own, plain, atol=1e-3)
    assert np.allclose(own, anchored(plain, STRENGTHS, to_picture(tiny_image())), atol=1e-5)


def test_frames_with_the_anchor_start_at_the_source_and_end_at_the_methods_own():
    """With the share turned round, the anchor would take the edit away where it is whole."""
    source, frames = np.full((4, 4, 3), 0.5, np.float32), [np.full((4, 4, 3), v, np.float32) for v in (0.3, 0.4, 0.9)]
    found = anchored(frames, STRENGTHS, source)
    assert [float(frame[0, 0, 0]) for frame in found] == pytest.approx([0.5, 0.4 + 0.75 * 0.2, 0.9])


def test_a_view_leaves_the_pipeline_as_it_is(pipe):
    """Ours without the anchor would be without it in every row that follows."""
    before = pipe.defaults
    view = with_anchor(pipe, not before.anchor_source)
    assert view.defaults.anchor_source != before.anchor_source and pipe.defaults == before
    assert view.defaults.steps == before.steps and view.transformer is pipe.transformer


def test_a_slider_is_run_as_it_was_trained(pipe):
    """The paper's method with an anchor is not the paper's."""
    with_it, without = (frames_of(UnderAnchor(ours, on), pipe) for on in (True, False))
    source = to_picture(tiny_image())
    assert psnr(with_it[0], source) > 45 > psnr(without[0], source)
    assert torch.equal(torch.tensor(with_it[2]), torch.tensor(without[2]))
