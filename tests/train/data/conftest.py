"""Fixtures of the data pipeline's tests."""

from __future__ import annotations

import pytest

from kontext_slider.train.data import scores as scoring
from tests.train.data.helpers import ANYTHING


@pytest.fixture
def lenient(monkeypatch):
    """Thresholds that let everything pass: a random model's edits mean nothing."""
    monkeypatch.setattr(scoring, "THRESHOLDS", {"ssim": ANYTHING})
