"""Fixtures of the data pipeline's tests."""

from __future__ import annotations

import pytest

from kontext_slider.train.data import filter as filters
from tests.train.data.helpers import ANYTHING


@pytest.fixture
def lenient(monkeypatch):
    """Thresholds that let everything pass: a random model's edits mean nothing."""
    monkeypatch.setattr(filters, "THRESHOLDS", {"ssim": ANYTHING})
