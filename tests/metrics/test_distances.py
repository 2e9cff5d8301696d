"""Distances between pictures, the library's SSIM against the one that published figures were made with, and PSNR."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d

from kontext_slider.errors import InvalidInput
from kontext_slider.metrics import to_picture
from kontext_slider.metrics.distances import psnr, rms, ssim
from tests.tiny import tiny_image


@pytest.mark.parametrize("distance", [rms, ssim])
def test_distances_are_symmetric_and_grow_with_the_change(distance):
    """A matrix that is not a distance makes every measure meaningless."""
    rng = np.random.default_rng(0)
    picture = rng.random((48, 48, 3)).astype(np.float32)
    noise = rng.normal(0, 1, picture.shape).astype(np.float32)
    matrix = distance([picture, picture + 0.02 * noise, picture + 0.2 * noise])
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diagonal(matrix), 0)
    assert 0 < matrix[0, 1] < matrix[0, 2]


def former_ssim(a: np.ndarray, b: np.ndarray, dtype: torch.dtype) -> float:
    """This project's own code up to November 2026. It ran in single precision."""

    def one_scale(x: torch.Tensor, y: torch.Tensor) -> float:
        line = torch.exp(-0.5 * ((torch.arange(11.0, dtype=dtype) - 5) / 1.5) ** 2)
        window = (line[:, None] * line[None] / line.sum() ** 2)[None, None]
        mx, my, xx, yy, xy = (conv2d(z, window) for z in (x, y, x * x, y * y, x * y))
        vx, vy, covariance = xx - mx**2, yy - my**2, xy - mx * my
        above = (2 * mx * my + 1e-4) * (2 * covariance + 9e-4)
        return float((above / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean())

    weights = np.array([0.299, 0.587, 0.114], np.float32)
    x, y = (torch.from_numpy(picture @ weights).to(dtype)[None, None] for picture in (a, b))
    scales = [(avg_pool2d(x, k), avg_pool2d(y, k)) for k in (1, 2, 4)]
    return float(np.mean([max(0.0, 1 - one_scale(*pair)) for pair in scales if min(pair[0].shape[2:]) >= 11]) ** 0.5)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (70, 51), (96, 40)])
def test_the_library_gives_the_published_ssim(width, height):
    """Other settings (uniform window, sample covariance, one scale) would give other figures under the same name. In
    double precision the difference to the former code is below 1e-9, odd sides and two scales included; what its
    single precision added is below 1e-5 for pictures that differ visibly, and 1e-3 for nearly equal ones."""
    picture, other = (to_picture(tiny_image(width, height, seed)) for seed in (0, 1))
    for share, rounding in ((0.001, 1e-3), (0.1, 1e-5), (1.0, 1e-5)):
        mixed = (1 - share) * picture + share * other
        found = ssim([picture, mixed])[0, 1]
        assert found == pytest.approx(former_ssim(picture, mixed, torch.float64), abs=1e-9)
        assert found == pytest.approx(former_ssim(picture, mixed, torch.float32), abs=rounding)


def test_ssim_of_pictures_below_its_window_is_a_sentence():
    """The library's own error speaks of its arguments."""
    with pytest.raises(InvalidInput, match="at least 11 pixels a side, not 8"):
        ssim([np.zeros((8, 20, 3), np.float32)] * 2)


def test_psnr_is_the_textbook_figure():
    """In another unit every figure of the README would be wrong."""
    black = np.zeros((4, 4, 3), np.float32)
    assert psnr(black + 0.1, black) == pytest.approx(20.0, abs=1e-4)
    assert psnr(black, black) == 99.0
    assert psnr(black - 5, black) == 99.0, "a frame is clipped before it is shown"
