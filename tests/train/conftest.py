"""accelerate keeps its state in the process; every test starts without it."""

from __future__ import annotations

import datasets
import pytest
from accelerate.state import AcceleratorState, GradientState

from tests.train.data_set import write_data


@pytest.fixture(autouse=True)
def fresh_accelerate():
    datasets.disable_progress_bars()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The small data set."""
    return write_data(tmp_path_factory.mktemp("data"))
