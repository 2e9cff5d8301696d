"""Shared fixtures. Warnings are errors and markers are registered in pyproject.toml."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported: no test waits for, or depends on, a network

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.tiny import KNOWN_INSTRUCTIONS, tiny_pipeline  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def few_threads():
    """Tiny matrices are slower on many threads, and other work may run beside the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pipe():
    """A fresh tiny pipeline with a random slider."""
    return tiny_pipeline()


@pytest.fixture
def plain_pipe():
    """A fresh tiny pipeline without a slider."""
    return tiny_pipeline(slider=False)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model folder with a slider; it knows two edits, and its frames have the area of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS).save_pretrained(folder)
    return str(folder)
