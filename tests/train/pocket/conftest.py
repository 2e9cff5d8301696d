"""The small pocket model's parts, built once: its tokenizers take longer than its weights."""

from __future__ import annotations

import copy

import pytest

from kontext_slider.train.pocket.batches import Words, all_instructions
from kontext_slider.train.pocket.model import PocketSizes, build_parts, build_tokenizers

TINY = PocketSizes(heads=2, double_blocks=1, single_blocks=1, latent_channels=16, text=32)


@pytest.fixture(scope="session")
def built() -> dict:
    return build_parts(build_tokenizers(all_instructions(), TINY.text_length), TINY, seed=0)


@pytest.fixture
def parts(built) -> dict:
    """A copy that a test may train."""
    return {**built, "transformer": copy.deepcopy(built["transformer"])}


@pytest.fixture(scope="session")
def words(built) -> Words:
    return Words(built, all_instructions())
