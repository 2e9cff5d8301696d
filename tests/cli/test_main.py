"""The command line as a whole: help, wrong flags, what the flags do, and `info`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kontext_slider.cli import COMMANDS, main
from kontext_slider.engine import SliderEngine
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from tests.cli.helpers import SNOW, results, run_sweep, status_of


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line in the table whose module lacks one of its two functions fails only when somebody uses it."""
    assert status_of([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_help_needs_no_model_library() -> None:
    """`--help` that imports torch and gradio takes ten seconds."""
    code = (
        "import sys; from kontext_slider.cli import build_parser; build_parser(['sweep']).format_help();"
        "print(sorted({'torch', 'gradio', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "flags",
    [
        ["-n", "1"],
        ["-n", "many"],
        ["--steps", "0"],
        ["--guidance", "-1"],
        ["--guidance", "nan"],
        ["--seed", "-1"],
        ["--size", "1.5"],
        ["--fps", "1000"],
        ["--fps", "5", "--format", "zip"],
        ["--format", "avi"],
        ["-i", "  "],
        ["--strenght", "1"],
        ["--dtype", "int8"],
        ["--width", "0"],
        ["--full-size", "--format", "gif"],
        ["--device", "tpu"],
        ["--model", "pockte"],
    ],
)
def test_wrong_flags_get_a_sentence(
    flags: list[str], photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and words; a traceback, or a default in a wrong value's place, helps nobody."""
    assert status_of(["sweep", str(photos), *SNOW, "--model", model, "--out", str(tmp_path / "out"), *flags]) == 2
    told = capsys.readouterr().err
    assert told.strip() and "Traceback" not in told
    assert not list(tmp_path.glob("out/*"))


def test_flags_of_memory_and_compilation_arrive(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags that are taken and forgotten, or mixed up on the way."""
    asked: dict[str, object] = {}

    def load(name: str, **how: object) -> KontextSliderPipeline:
        asked.update(how)
        return load_pipeline(name, device="cpu")

    def engine(pipe: KontextSliderPipeline, **settings: object) -> SliderEngine:
        asked.update(settings)
        return SliderEngine(pipe)

    monkeypatch.setattr("kontext_slider.presets.load_pipeline", load)
    monkeypatch.setattr("kontext_slider.engine.SliderEngine", engine)
    words = ["edit", str(photos / "a.png"), *SNOW, "-o", str(tmp_path / "out.png"), "--model", model, "--quiet"]
    assert main([*words, "--quantize", "int8", "--compile", "--speed", "fast"]) == 0
    assert (asked["quantize"], asked["low_vram"], asked["device"]) == ("int8", False, "cpu")
    assert (asked["compiled"], asked["speed"]) == (True, "fast")
    for flags, compiled in ([], None), (["--no-compile"], False):
        assert main([*words, *flags]) == 0
        assert asked["compiled"] is compiled
    for flag in ("--low-vram", "--spare-memory"):  # the second is its old name
        assert main([*words, flag]) == 0
        assert asked.pop("low_vram") is True


def test_unknown_instruction_is_told_and_done(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small model silently does something else when asked for what it never saw."""
    out = tmp_path / "out.png"
    words = ["edit", str(photos / "a.png"), "-i", "make it snowy", "-o", str(out), "--model", model, "--device", "cpu"]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "was not trained for 'make it snowy'" in told and "'make it snow'" in told
    assert out.exists()


def test_info_reads_results(photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a file says of itself is there for people, too."""
    run_sweep(photos / "a.png", tmp_path / "out", model, "--quiet")
    [name] = results(tmp_path / "out")
    capsys.readouterr()
    assert main(["info", str(tmp_path / "out" / name)]) == 0
    assert json.loads(capsys.readouterr().out)["instruction"] == "make it snow"
    assert main(["info", str(photos / "a.png")]) == 2


def test_info_goes_on_after_a_file_that_says_nothing(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """One stranger among a hundred results must not hide the others, and a missing file is not a stranger."""
    run_sweep(photos / "a.png", tmp_path / "out", model, "--quiet")
    [name] = results(tmp_path / "out")
    capsys.readouterr()
    assert main(["info", "nowhere.gif", str(photos), str(photos / "a.png"), str(tmp_path / "out" / name)]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["file"].endswith(name)
    assert "no file 'nowhere.gif'" in told.err and "a.png does not say" in told.err


def test_a_library_that_meets_a_full_disk_is_a_sentence(monkeypatch, capsys):
    """Commands whose files a library writes ended in a traceback on a full or forbidden disk."""
    import kontext_slider.cli.info as info

    def fail(args):
        raise OSError(28, "No space left on device", "a.parquet")

    monkeypatch.setattr(info, "run", fail)
    assert main(["info", "a.png"]) == 1
    assert "a.parquet failed (No space left on device): make room" in capsys.readouterr().err
