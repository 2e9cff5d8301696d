"""The distance in the base model's own features, on a tiny real-class pipeline."""

import numpy as np
import pytest
import torch

from kontext_slider import features
from kontext_slider.errors import InvalidInput
from kontext_slider.features import DEFAULT_RULERS, JUDGES, block_distance, feature_distances, find_distance
from kontext_slider.metrics import to_picture
from tests.tiny import tiny_image, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture
def pictures():
    start, end = (to_picture(tiny_image(seed=seed)) for seed in (0, 1))
    return [(1 - s) * start + s * end for s in (0, 0.25, 0.5, 1)]


def test_it_is_a_metric_that_grows_with_the_change(pipe, pictures):
    """The triangle deficit means a detour only where the triangle inequality holds."""
    matrix = block_distance(pipe)(pictures)
    assert np.allclose(matrix, matrix.T) and not np.diagonal(matrix).any()
    assert 0 < matrix[0, 1] < matrix[0, 2] < matrix[0, 3] < 2
    assert all(matrix[i, j] <= matrix[i, k] + matrix[k, j] + 1e-6 for i in range(4) for j in range(4) for k in range(4))


def test_the_slider_does_not_change_the_ruler(pipe, pictures):
    """Measured through its own LoRA, every ablation would bring a distance of its own."""
    with_slider = block_distance(pipe)(pictures)
    assert np.allclose(block_distance(tiny_pipeline(slider=False))(pictures), with_slider, atol=1e-6)


def test_nothing_stays_on_the_transformer(pipe, pictures, monkeypatch):
    """A forgotten hook slows every later pass and holds its pictures in memory."""

    def fail(features):
        raise RuntimeError("full")

    block_distance(pipe)(pictures)
    monkeypatch.setattr(features, "feature_distances", fail)
    with pytest.raises(RuntimeError):
        block_distance(pipe)(pictures)
    assert not any(module._forward_hooks for module in pipe.transformer.modules())


def test_loud_channels_do_not_drown_the_rest():
    """Deep features differ in length by orders of magnitude between tokens; only their direction counts."""
    quiet, loud = torch.zeros(4, 4, 2), torch.zeros(4, 4, 2)
    quiet[..., 0] = 1
    loud[:, :2, 0], loud[:, 2:, 1] = 50, 0.1  # the right half points elsewhere
    expected = np.mean([0.5**0.5, 1, 1])  # the whole picture's mean; root of half of 2 at the other levels
    assert feature_distances(torch.stack([quiet, loud]))[0, 1] == pytest.approx(expected)


def test_a_small_move_is_a_small_change():
    """Token by token, an object that moves by its own width is as far away as one that vanished: sizes and shapes
    would all count as jumps."""
    places = torch.zeros(3, 8, 8, 2)
    places[..., 0] = 1
    for picture, column in enumerate((0, 1, 6)):
        places[picture, 2:4, column] = torch.tensor([0.0, 1.0])
    matrix = feature_distances(places)
    assert matrix[0, 1] < 0.1 * matrix[0, 2]


def test_no_ruler_that_judges_was_fitted_to():
    """The synthetic edits were spaced by the model's features and by RMS, which would praise whoever learned them."""
    assert not {"pocket", "rms"} & set(JUDGES) and set(JUDGES) < set(DEFAULT_RULERS)


def test_an_unknown_distance_names_those_there_are():
    """A typo should not become a traceback."""
    with pytest.raises(InvalidInput, match="ssim, rms"):
        find_distance("ssmi")
