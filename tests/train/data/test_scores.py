"""Scores of a strip, and which strips are kept."""

import math

import numpy as np
import pytest
from PIL import Image

from kontext_slider.metrics import to_image
from kontext_slider.metrics.distances import rms
from kontext_slider.train.data import scores as scoring
from kontext_slider.train.data.recipe import CATEGORIES, Recipe, Rejected
from kontext_slider.train.data.scores import (
    NO_EDIT,
    UNEVEN,
    UNLIKE,
    Drawn,
    Scores,
    Threshold,
    calibrated,
    check_scores,
    kl_from_even,
    on_release_scale,
    score_tiles,
)


def grey(level: float) -> Image.Image:
    return to_image(np.full((8, 8, 3), level, dtype=np.float32))


def scores(**changes) -> Scores:
    return Scores(**{
        "source_edit": 0.3, "edit_reconstruction": 0.2, "source_reconstruction": 0.2, "steps": (0.1,) * 6, "kl": 0.0,
        "delta_smooth": 0.0, **changes,
    })  # fmt: skip


def test_each_score_is_the_distance_it_is_named_after():
    """Swapped ends, or the release's eight distances for the paper's six, would filter by something else."""
    levels = [0.0, 0.1, 0.2, 0.3, 0.5, 0.9]  # source, four frames, edit
    result = score_tiles([grey(level) for level in levels], rms)
    assert result.source_reconstruction == pytest.approx(0.1, abs=0.01)
    assert result.source_edit == pytest.approx(0.9, abs=0.01)
    assert result.edit_reconstruction == pytest.approx(0.4, abs=0.01)
    assert result.steps == pytest.approx((0.1, 0.1, 0.2), abs=0.01)
    assert result.kl == pytest.approx(kl_from_even((1, 1, 2)), abs=0.01)
    assert result.delta_smooth == pytest.approx(0, abs=0.02)


def test_kl_by_hand():
    """Natural logarithm; a step of zero counts nothing and must not be NaN; a strip that stands still is the worst."""
    assert kl_from_even([0.2] * 6) == pytest.approx(0)
    assert kl_from_even([1, 0, 0, 0, 0, 0]) == pytest.approx(math.log(6))
    assert kl_from_even([3, 1]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl_from_even([0, 0, 0]) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source_edit": 0.09}, NO_EDIT),
        ({"edit_reconstruction": 0.56}, UNLIKE),
        ({"kl": 0.151}, UNEVEN),
        ({"source_edit": float("nan")}, NO_EDIT),
    ],
)
def test_a_strip_is_rejected_for_its_first_fault(changes, reason):
    """A comparison the wrong way round would keep the worst strips; NaN passes every comparison written carelessly."""
    check_scores(scores(), "stylization", "lpips", 0.15)
    with pytest.raises(Rejected) as rejected:
        check_scores(scores(**changes), "stylization", "lpips", 0.15)
    assert rejected.value.reason == reason


def test_limits_themselves_pass():
    """The paper keeps what is equal to a threshold."""
    check_scores(scores(source_edit=0.10, edit_reconstruction=0.55, kl=0.15), "stylization", "lpips", 0.15)


@pytest.mark.parametrize("distance", scoring.THRESHOLDS)
def test_every_category_has_thresholds(distance):
    """A category without one would end a run of days with a KeyError."""
    assert set(scoring.THRESHOLDS[distance]) == set(CATEGORIES)
    assert Recipe(distance=distance).distance == distance


def test_calibration_lets_right_edits_pass_and_stops_those_that_only_the_codec_made():
    """The table in the code was made by this function: a category of faint edits must not let untouched pictures in."""
    strong = [Drawn(codec=0.05, edit=k / 100, last_step=k / 200) for k in range(10, 111)]
    faint = [Drawn(codec=0.05, edit=0.01, last_step=0.01)] * 5
    limits = calibrated({"stylization": strong, "material_change": faint}, share=0.1)
    assert limits == {"stylization": Threshold(0.2, 0.5), "material_change": Threshold(0.05, 0.01)}


def test_lpips_on_the_releases_scale_sees_pictures_from_0_to_1():
    """The paper's thresholds were found with pictures fed as [0, 1] to a network made for [-1, 1]."""
    fed = []

    def lpips(pictures):
        fed.extend(picture * 2 - 1 for picture in pictures)  # what the package documents
        return np.zeros((len(pictures),) * 2)

    on_release_scale(lpips)([np.zeros((2, 2, 3)), np.ones((2, 2, 3)), np.full((2, 2, 3), 0.25)])
    assert [float(picture.mean()) for picture in fed] == [0.0, 1.0, 0.25]
