"""Who may import whom: read from the source, so that no layer grows into another unseen.

Imports count wherever they stand, in functions and under TYPE_CHECKING too. What is not yet solved is listed here: take
a line off where you solve one.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = "kontext_slider"
ROOT = Path(__file__).parents[1]
LEAVES = {"world": (), "metrics": ("errors",)}  # and what of the package each may import
APART = ("train", "evaluate")
ABOVE_MORPH = ("train", "evaluate", "engine", "cli", "ui")

IMPORTED_BY_LEAVES: set[tuple[str, str]] = set()
IN_CIRCLES: set[str] = set()


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by name, `__init__` by that of its folder."""
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def imports() -> dict[str, set[str]]:
    """The modules of the package that each module imports."""
    return {name: imported_by(name, file) - {name} for name, file in modules().items()}


def imported_by(name: str, file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(node, name, file)
            inner = {f"{origin}.{alias.name}" for alias in node.names}
            found.update(inner & modules().keys() or {origin} & modules().keys())
    return found


def origin_of(node: ast.ImportFrom, name: str, file: Path) -> str:
    """The absolute name of what `from ... import` names."""
    if not node.level:
        return node.module or ""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def layer_of(module: str) -> str:
    """The folder or file directly under the package."""
    return module.split(".")[1] if "." in module else ""


def test_leaves_import_nothing_of_the_package():
    """Ground truth and measures that need the model cannot judge it."""
    found = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if (leaf := layer_of(name)) in LEAVES and layer_of(other) not in (leaf, *LEAVES[leaf])
    }
    assert not found - IMPORTED_BY_LEAVES


def test_train_and_evaluate_never_import_each_other():
    """What measures a model must not be needed to train it, and the other way round."""
    found = {
        (name, other)
        for name, others in imports().items()
        for other in others
        if {layer_of(name), layer_of(other)} == set(APART)
    }
    assert not found


def test_morphers_import_nothing_of_those_that_use_them():
    """Data and evaluation share them; one that needs either would bring it into the other."""
    used = {name: reachable(imports(), name) for name in imports() if layer_of(name) == "morph"}
    found = {(name, other) for name, others in used.items() for other in others if layer_of(other) in ABOVE_MORPH}
    assert used and not found


def test_no_circle_of_files():
    """Files that need each other can only be read, tested and taken out together."""
    found = {name for name in imports() if name in reachable(imports(), name)}
    assert not found - IN_CIRCLES


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """What a module imports, and what that imports."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen
