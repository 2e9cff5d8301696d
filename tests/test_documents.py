"""Documents: their links lead somewhere, their commands parse, their Python compiles."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from pathlib import Path

import pytest

from kontext_slider.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w-]+(?:/[\w.-]*)+|\w+\.py)`")
PLACEHOLDER = re.compile("NAME|DATE|PATH|FOLDER|[A-Z]/[A-Z]")
ELSEWHERE = (
    "slider_projector",
    "runs",
    "annotation_images",
    "pie-bench",
    "model_weights",
    "OUT",
)  # of a model, a run, data


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


def flags_of(command: str) -> set[str]:
    """The flags of a command, those of its sub-commands included."""
    outer = build_parser([command])._subparsers._group_actions[0].choices[command]._actions
    inner = [parser for action in outer if action.nargs == argparse.PARSER for parser in action.choices.values()]
    actions = [*outer, *(action for parser in inner for action in parser._actions)]
    return {word for action in actions for word in action.option_strings} | {"--version"}


FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OURS = {command.name: flags_of(command.name) for command in COMMANDS}
SCRIPTS = {
    path: set(FLAG.findall(path.read_text(encoding="utf-8")))
    for path in [*ROOT.glob("benchmarks/*.py"), ROOT / "kontext_slider" / "space.py", ROOT / "tests/hostile/fuzz.py"]
}


def known_flags(code: str) -> set[str] | None:
    """The flags that a piece of code may have: those of the command or script of ours that it runs, of all where it
    runs none; None for other programs."""
    for script, flags in SCRIPTS.items():
        if script.name in code or f"{script.parent.name}.{script.stem}" in code:
            return flags
    if "app.py" in code:
        return OURS["app"]
    if code.startswith("--"):
        return set().union(*OURS.values(), *SCRIPTS.values())
    command = re.search(r"(?:kontext-slider|-m kontext_slider|make) ([\w-]+)", code) or re.match(r"([\w-]+) ", code)
    return OURS.get(command[1]) if command else None


@pytest.mark.parametrize(
    "path",
    [*(p for p in DOCUMENTS if p.name not in ("LOG.md", "CHANGELOG.md", "decisions.md")), *ROOT.glob("weights/*/*.md")],
    ids=name,
)
def test_every_flag_that_is_named_exists(path):
    """README named a flag that the program does not have; whoever followed it got an error. (The log, the changelog and
    the decisions tell of flags that are gone.)"""
    text = path.read_text(encoding="utf-8")
    lines = [line for language, block in BLOCK.findall(text) if language == "bash" for line in block.splitlines()]
    for piece in [*lines, *re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]:
        code = re.sub(r'#.*|PIP_ARGS="[^"]*"', "", piece).strip()
        known = known_flags(code)
        missing = set(FLAG.findall(code)) - known if known is not None else set()
        assert not missing, f"{piece}: there is no {', '.join(sorted(missing))}"


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
