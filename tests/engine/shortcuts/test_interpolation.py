"""Frames interpolated between finished ones: near the exact frame, or not interpolated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.engine.shortcuts.interpolation import interpolate, mixtures, neighbours, worst_psnr
from kontext_slider.projector import ModulationOffsets, lagrange_weights
from tests.engine.helpers import bent_offsets, smooth_offsets


def flat(level: float) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), round(255 * level), dtype=np.uint8))


def polynomial_weights(nodes: list[float], strength: float) -> np.ndarray:
    """(K,), of what is at K nodes."""
    return lagrange_weights(torch.tensor(nodes), torch.tensor([strength]))[0].numpy()


def test_a_mixture_has_the_offsets_and_goes_round_a_bend():
    """Polynomials of the strength overshoot where the slider's MLP has a kink."""
    nodes = [0.45, 0.7, 0.25, 0.9, 0.0, 1.0]
    (best, other), wanted = mixtures(bent_offsets, nodes, 0.55), bent_offsets([0.55]).scale[0]
    assert best.sum() == pytest.approx(1) and other.sum() == pytest.approx(1) and other[-1] == 0
    mixed = best.double() @ bent_offsets(nodes).scale
    assert mixed.numpy() == pytest.approx(wanted.numpy(), abs=2e-3)
    polynomial = polynomial_weights(nodes, 0.55) @ [max(node - 0.5, 0) for node in nodes]
    assert abs(polynomial - 0.05) > 0.01


def test_of_a_slider_that_does_nothing_the_strength_alone_is_mixed():
    """Offsets that are equal everywhere tell nothing, and a division by their length nothing good."""
    weights, _ = mixtures(
        lambda s: ModulationOffsets(torch.ones(len(s), 3), torch.ones(len(s), 3)), [0.2, 0.6, 1.0], 0.4
    )
    assert float(weights @ torch.tensor([0.2, 0.6, 1.0])) == pytest.approx(0.4, abs=1e-3)


def test_neighbours_are_near_apart_and_on_both_sides():
    """Beyond the ends a mixture runs away, across a wide gap it knows nothing, and twins add their noise."""
    assert neighbours([0.0, 0.2, 0.4, 0.6, 0.8], 0.45, 0.25, 3) == [0.4, 0.6, 0.2, 0.8, 0.0]
    assert neighbours([0.0, 0.2, 0.5, 0.7, 1.0], 0.1, 0.25, 5) == [0.0, 0.2, 0.5, 0.7, 1.0]  # one side has more
    assert neighbours([0.4, 0.41, 0.42, 0.6, 0.8], 0.45, 0.25, 3) == [0.42, 0.6, 0.8]  # twins
    assert neighbours([0.4, 0.6], 0.5, 0.25, 3) == []  # nothing to estimate the error by
    assert neighbours([0.2, 0.4, 0.6, 0.8], 0.5, 0.25, 5) == []  # fewer than are wanted
    assert neighbours([0.0, 0.5, 1.0], 0.4, 0.25, 3) == []  # too far apart
    assert neighbours([0.7, 0.8, 0.9, 1.1, 1.2], 0.95, 0.25, 3) == []  # the other side is beyond the full edit
    assert neighbours([0.9, 1.0, 1.1, 1.3, 1.5], 1.2, 0.25, 3) == [1.1, 1.3, 1.0, 1.5]
    assert neighbours([0.5, 0.6, 0.7], 0.4, 0.25, 3) == [] and neighbours([0.1, 0.2, 0.3], 0.4, 0.25, 3) == []


def test_a_smooth_way_is_interpolated_and_a_jump_is_not():
    """Half of an object that is there at once and not before: a ghost."""
    smooth = {s: flat(0.2 + 0.4 * s**2) for s in (0.4, 0.6, 0.2, 0.8)}
    frame = interpolate(smooth, 0.5, 44.0, smooth_offsets)
    assert frame is not None and abs(np.asarray(frame).mean() / 255 - 0.3) < 0.004
    jump = {s: flat(0.2 if s < 0.5 else 0.5) for s in (0.4, 0.6, 0.2, 0.8)}
    assert interpolate(jump, 0.5, 44.0, smooth_offsets) is None


def test_a_small_object_is_looked_at_for_itself():
    """A lamp of another colour in a large picture: wrong, and nothing in the mean of all pixels."""
    still = torch.full((200, 330, 3), 0.5)
    other = still.clone()
    other[195:, 325:] += 0.1  # in the last tile, which is smaller
    assert -10 * torch.log10((still - other).square().mean()) > 50
    assert worst_psnr(still, other) == pytest.approx(-10 * np.log10(0.01 * 25 / 80), abs=0.1)
    assert worst_psnr(still, still) == 99


def test_a_slider_without_kinks_mixes_by_the_strengths_polynomial():
    """Five frames tell a quartic way; offsets that are a cubic tell no more than four."""
    nodes, s = [0.25, 0.5, 0.0, 0.75, 1.0], 0.37
    best, other = mixtures(smooth_offsets, nodes, s)
    assert best == pytest.approx(polynomial_weights(nodes, s), abs=2e-3)
    assert other[:4] == pytest.approx(polynomial_weights(nodes[:4], s), abs=2e-2)
