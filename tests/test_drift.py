"""Frames that were shifted and zoomed on purpose: the drift is found, undone and reported, and invented nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kontext_slider.drift import Drift, find_drift, fit_in_place
from kontext_slider.transfer import Transfer
from tests.test_transfer import darker, decibels, small, textured


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """Shapes with edges, as phase correlation needs them."""
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
        (1024, 768), Image.Resampling.NEAREST
    )


def moved(frame: Image.Image, drift: Drift) -> Image.Image:
    """The frame as a model would make it that drifts so."""
    back = Drift((-drift.shift[0] / drift.scale, -drift.shift[1] / drift.scale), 1 / drift.scale)
    return back.undo(frame)


@pytest.mark.parametrize("drift", [Drift((3.4, -2.2), 1.0), Drift((0.0, 0.0), 1.02), Drift((-5.0, 4.0), 0.985)])
def test_a_drift_on_purpose_is_found(photograph, drift):
    source = small(photograph)
    found = find_drift(source, moved(darker(source), drift))
    assert found is not None
    assert np.abs(np.subtract(found.shift, drift.shift)).max() < 0.3
    assert abs(found.scale - drift.scale) < 0.002


def test_an_undone_drift_gives_a_sharp_picture(photograph):
    """A frame that is two pixels off gave every edge a double."""
    source = small(photograph)
    drifted = moved(darker(source), Drift((4.0, 3.0), 1.01))
    transfer, drift = fit_in_place(source, drifted)
    assert drift is not None
    truth = darker(photograph)
    assert (
        decibels(transfer.apply(photograph), truth)
        > decibels(Transfer.fit(source, drifted).apply(photograph), truth) + 3
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_drift_is_found_where_there_is_none(photograph, seed):
    """Undoing what is not there would soften every frame."""
    source = small(photograph)
    assert find_drift(source, source) is None
    assert find_drift(source, darker(source)) is None
    noisy = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (192, 256, 3), dtype=np.uint8))
    assert find_drift(source, noisy) is None, "a frame that has nothing in common with its source"
    assert find_drift(textured(256, 192, seed), darker(textured(256, 192, seed))) is None


def test_a_moved_object_is_no_drift(photograph):
    """Something new in one place is what the person asked for."""
    source = small(photograph)
    frame = darker(source)
    frame.paste(frame.crop((40, 40, 120, 120)), (60, 50))
    assert find_drift(source, frame) is None


def test_pictures_without_edges_have_no_drift():
    plain = Image.new("RGB", (64, 64), (90, 120, 150))
    assert find_drift(plain, Image.new("RGB", (64, 64), (20, 30, 40))) is None
