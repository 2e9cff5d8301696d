"""CLIP-dir and the identity curve, in a space of two dimensions where they are known by hand."""

import numpy as np
import pytest
import torch

from kontext_slider.metrics.direction import clip_direction, identity_curve


class Compass:
    """Pictures are points (their first two values); the word "east" points along the first axis."""

    def embed_images(self, pictures):
        return torch.tensor([[float(p[0, 0, 0]), float(p[0, 0, 1])] for p in pictures])

    def embed_texts(self, texts):
        return torch.tensor([{"here": [0.0, 0.0], "east": [1.0, 0.0]}[text] for text in texts])


def points(*places):
    pictures = np.zeros((len(places), 1, 1, 3), np.float32)
    pictures[:, 0, 0, :2] = places
    return list(pictures)


def test_the_direction_is_the_papers_sum():
    """(1/N) sum of c_i / (i/N): for steps that all go the right way it is N's harmonic number."""
    right = points((0, 0), (1, 0), (2, 0))
    assert clip_direction(Compass(), right, ("here", "east")) == pytest.approx((1 / 0.5 + 1) / 2)
    aside = points((0, 0), (0, 1), (1, 0))
    assert clip_direction(Compass(), aside, ("here", "east")) == pytest.approx((0 / 0.5 + 1) / 2)


def test_a_frame_that_does_not_move_has_no_direction():
    """0 / 0 would be NaN and swallow the mean of 540 edits."""
    assert clip_direction(Compass(), points((0, 0), (0, 0), (1, 0)), ("here", "east")) == pytest.approx(0.5)


def test_identity_starts_at_one_and_falls():
    """The curve begins at the source itself, or it would hide what strength 1/N costs."""
    curve = identity_curve(Compass(), points((1, 0), (0.8, 0.6), (0, 1)))
    assert np.allclose(curve, [1, 0.8, 0])
