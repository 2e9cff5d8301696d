"""Documents: their links lead somewhere, their commands parse, their Python compiles."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from kontext_slider.cli import build_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w-]+(?:/[\w.-]*)+|\w+\.py)`")
PLACEHOLDER = re.compile("NAME|DATE|PATH|FOLDER|[A-Z]/[A-Z]")
ELSEWHERE = ("slider_projector", "runs", "annotation_images")  # folders of a model, of a run, of a data set


def blocks(language: str) -> list[tuple[Path, str]]:
    """The code blocks of all documents in that language."""
    found = [(path, *match) for path in DOCUMENTS for match in BLOCK.findall(path.read_text(encoding="utf-8"))]
    return [(path, text) for path, name, text in found if name == language]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    """Pages were moved, and the links of others went nowhere."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(place.read_text(encoding="utf-8")), f"{target} has no such heading"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name not in ("LOG.md", "CHANGELOG.md")], ids=name)
def test_every_file_that_is_named_is_there(path):
    """A renamed module, under its old name in the page that says which file to open."""
    for file in FILE.findall(path.read_text(encoding="utf-8")):
        if not PLACEHOLDER.search(file) and file.split("/")[0] not in ELSEWHERE:
            homes = (ROOT, ROOT / "kontext_slider", ROOT / "benchmarks", ROOT / "kontext_slider" / "world")
            assert any((home / file).exists() for home in homes), f"{file} is not there"


def test_every_command_in_the_documents_parses():
    """An option that was renamed fails for whoever copies it."""
    commands = 0
    for path, text in blocks("bash"):
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["kontext-slider"]:
                continue
            args = build_parser(words[1:2]).parse_args(words[1:])
            commands += 1
            assert args.command == words[1], f"{name(path)}: {line}"
    assert commands > 10


def test_python_in_the_documents_compiles_and_imports_what_is_there():
    """A snippet with a name that the package no longer has."""
    import kontext_slider

    for path, text in blocks("python"):
        for node in ast.walk(ast.parse(text, str(path))):
            if isinstance(node, ast.ImportFrom) and node.module == "kontext_slider":
                for alias in node.names:
                    assert getattr(kontext_slider, alias.name), f"{name(path)}: {alias.name}"


def test_the_readme_stays_short():
    """It had grown to a report of 309 lines that nobody read to its end."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
