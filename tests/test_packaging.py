"""What is installed, and how: the lists of packages and the build files agree with each other."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def listed(name: str) -> dict[str, Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]
    return {requirement.name: requirement for requirement in wanted}


@pytest.fixture
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_pins_are_exact_and_within_the_ranges(project: dict) -> None:
    """A package in one list and not in the other works in the checkout and fails where it is installed."""
    for file, wanted in (
        ("requirements.txt", project["dependencies"]),
        ("requirements-train.txt", project["optional-dependencies"]["train"]),
    ):
        pins, ranges = listed(file), {r.name: r for r in map(Requirement, wanted)}
        assert pins.keys() == ranges.keys()
        for name, pin in pins.items():
            [exact] = pin.specifier
            assert exact.operator == "==" and ranges[name].specifier.contains(exact.version)


def test_development_pins_are_exact() -> None:
    """An unpinned linter turns a green check red overnight."""
    for requirement in listed("requirements-dev.txt").values():
        assert [part.operator for part in requirement.specifier] == ["=="]


def test_torchvision_is_nowhere() -> None:
    """It has no CPU build for every platform, and nothing here needs it."""
    for name in (*map(str, ROOT.glob("requirements*.txt")), "pyproject.toml", "Dockerfile"):
        assert "torchvision" not in (ROOT / name).read_text()


def test_assets_of_the_page_are_packaged() -> None:
    """Scripts and styles beside the ui's modules are read at run time and must be installed with them."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = set(setuptools["package-data"]["kontext_slider.ui"])
    folder = ROOT / "kontext_slider" / "ui"
    suffixes = {path.suffix for path in folder.iterdir() if path.is_file()} - {".py", ".pyi"}
    assert {f"*{suffix}" for suffix in suffixes} <= packaged
