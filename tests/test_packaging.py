"""What is installed, and how: the lists of packages and the build files agree with each other."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kontext_slider

ROOT = Path(__file__).parent.parent
NOT_SOURCES = (".*", "build", "dist", "runs", "outputs", "*.egg-info", "__pycache__", "tests", "benchmarks")


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


def python(*words: str, cwd: Path, path: Path | None = None) -> str:
    """What a Python beside this one prints, with `path` as the only place of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A clone, without what a build must not need."""
    folder = tmp_path_factory.mktemp("clone") / "sources"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    return folder


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    """The wheel that comes of the source distribution."""
    build = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    (sources.parent / "sdist").mkdir()
    (sources.parent / "wheel").mkdir()
    python("-c", build, cwd=sources)
    [archive] = (sources.parent / "sdist").iterdir()
    with tarfile.open(archive) as packed:
        packed.extractall(sources.parent, filter="data")
    unpacked = sources.parent / archive.name.removesuffix(".tar.gz")
    python("-c", "from setuptools import build_meta; build_meta.build_wheel('../wheel')", cwd=unpacked)
    [file] = (sources.parent / "wheel").iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel installed in it, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)  # as installers do
    return folder


@pytest.mark.slow
def test_the_wheel_has_the_model_and_the_examples(wheel):
    """`pip install .` made a package whose own default model was missing."""
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("weights/pocket", "assets/examples", "assets/photos"):
        files = [file for file in (ROOT / folder).rglob("*") if file.is_file()]
        wanted = {f"kontext_slider/{file.relative_to(ROOT)}" for file in files}
        there = {name for name in names if name.startswith(f"kontext_slider/{folder}/")}
        assert there and there == {name for name in wanted if not re.search("/(measured|training)/", name)}
    assert not [name for name in names if name.startswith("tests/") or name == "setup.py"]
    assert wheel.stat().st_size < 30e6


@pytest.mark.slow
def test_an_installed_package_edits_and_has_examples(installed, tmp_path):
    """ "not at .../site-packages/weights/pocket", and an app without examples."""
    photo = str(ROOT / "assets" / "photos" / "cat.jpg")
    code = f"""
import kontext_slider
from kontext_slider.cli import main
from kontext_slider.ui.examples import read_examples
print(kontext_slider.__file__)
print(main(["edit", {photo!r}, "-i", "make it night", "--size", "64", "-o", "night.png", "--quiet"]))
print(len(read_examples()), all(example.image.is_file() for example in read_examples()))
"""
    where, status, *examples = python("-c", code, cwd=tmp_path, path=installed).split()
    assert Path(where).is_relative_to(installed) and status == "0"
    assert (tmp_path / "night.png").stat().st_size > 0
    assert int(examples[0]) > 0 and examples[1] == "True"


@pytest.mark.slow
def test_an_editable_install_copies_nothing(sources, tmp_path):
    """A copy of the weights in a developer's build folder, which is then the one that is used."""
    build = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    python("-c", build, cwd=sources)
    [file] = tmp_path.glob("*.whl")
    assert not [name for name in zipfile.ZipFile(file).namelist() if "weights" in name or "assets" in name]
    assert not (sources / "kontext_slider" / "weights").exists()


@pytest.mark.parametrize("words", [("-m", "kontext_slider"), ("-m", "kontext_slider.cli"), ("app.py",)], ids=str)
def test_every_way_in_tells_the_version(words):
    """`python -m kontext_slider.cli` did nothing and ended with success."""
    assert python(*words, "--version", cwd=ROOT, path=ROOT) == f"kontext-slider {kontext_slider.__version__}\n"


def test_the_module_of_the_command_line_is_the_command_line():
    """Status 0 for words that no command knows."""
    for module in ("kontext_slider", "kontext_slider.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "no-such-command"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and "no-such-command" in done.stderr


def test_no_message_names_a_file_that_is_not_installed():
    """ "pip install -r requirements-train.txt", to somebody who has a wheel and no such file. `space.py` needs a clone
    and says so."""
    absent = re.compile(r"requirements[\w-]*\.txt|benchmarks/|CHANGELOG|Makefile|\bdocs/")
    for file in {*(ROOT / "kontext_slider").rglob("*.py")} - {ROOT / "kontext_slider" / "space.py"}:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        for node in strings:
            assert id(node) in alone or not absent.search(node.value), f"{file}:{node.lineno}"
