"""The command line, with a real tiny model in a folder: batches that stop, go on and meet broken pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider import batch
from kontext_slider.cli import COMMANDS, main
from kontext_slider.commands import sweep as sweep_command
from kontext_slider.engine import SliderEngine
from kontext_slider.engine.sampling import Sampler
from kontext_slider.errors import InvalidInput
from kontext_slider.export import FORMATS, read_metadata
from kontext_slider.pipeline import KontextSliderPipeline
from kontext_slider.presets import load_pipeline
from tests.tiny import KNOWN_INSTRUCTIONS, tiny_image, tiny_pipeline

SNOW = ["-i", "make it snow", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model folder with a slider; it knows two edits."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures and a text file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    tiny_image(48, 32, seed=1).save(folder / "a.png")
    tiny_image(32, 48, seed=2).save(folder / "b.jpg")
    (folder / "notes.txt").write_text("no picture")
    return folder


def manifest(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def results(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != "manifest.jsonl")


def run_sweep(images: Path | list[Path], out: Path, model: str, *flags: str) -> int:
    images = images if isinstance(images, list) else [images]
    return main(["sweep", *map(str, images), *SNOW, "--out", str(out), "--model", model, "-n", "3", *flags])


def test_frames_of_a_fastest_sweep_tell_of_each_other(photos: Path, tmp_path: Path, model: str, monkeypatch) -> None:
    """Asked for one after the other from below, none ever lies between two that are finished."""
    render, rendered = Sampler.render, []

    def note(self, strengths, *rest):
        rendered.extend(strengths)
        return render(self, strengths, *rest)

    monkeypatch.setattr(Sampler, "render", note)
    assert run_sweep(photos / "a.png", tmp_path / "out", model, "-n", "11", "--speed", "fastest") == 0
    assert 0 < len(rendered) < 10 and 0.0 not in rendered


@pytest.mark.parametrize("suffix", FORMATS)
def test_sweep_of_a_folder(suffix: str, photos: Path, tmp_path: Path, model: str) -> None:
    """Every format, from words on a command line to files that say how they were made."""
    out = tmp_path / "deep" / "out"
    assert run_sweep(photos, out, model, "--format", suffix, "--seed", "5", "--quiet") == 0
    lines = manifest(out)
    assert [Path(line["source"]).name for line in lines] == ["a.png", "b.jpg"]
    assert sorted(line["file"] for line in lines) == results(out)
    for line in lines:
        assert line["instruction"] == "make it snow" and line["seed"] == 5 and line["model"] == model
        assert line["strengths"] == [0.0, 0.5, 1.0] and line["steps"] == 2 and line["guidance"] == 2.5
        assert read_metadata(out / line["file"])["strengths"] == [0.0, 0.5, 1.0]


def test_going_beyond_the_full_edit_is_a_choice(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """-s 1.4 typed for 0.4 must not pass; asked for, the file says what it is."""
    tiny_image(32, 32, seed=1).save(photos / "a.png")
    out = tmp_path / "beyond.png"
    words = ["edit", str(photos / "a.png"), *SNOW, "-s", "1.4", "-o", str(out), "--model", model, "--quiet"]
    assert main(words) == 2 and "--allow-extrapolation" in capsys.readouterr().err and not out.exists()
    assert main([*words, "--allow-extrapolation"]) == 0
    assert read_metadata(out)["strengths"] == [1.4]


def test_strength_zero_is_the_source_and_one_is_not(photos: Path, tmp_path: Path, model: str) -> None:
    """A model's own frame at 0 is near the source but not it: people complain that 0 already changes the picture."""
    picture = tiny_image(32, 32, seed=1)
    picture.save(photos / "a.png")
    frames = []
    for strength in ("0", "1"):
        out = tmp_path / f"{strength}.png"
        words = ["edit", str(photos / "a.png"), *SNOW, "-s", strength, "-o", str(out), "--model", model, "--quiet"]
        assert main(words) == 0
        frames.append(np.asarray(Image.open(out)))
        assert read_metadata(out)["strengths"] == [float(strength)]
    assert (frames[0] == np.asarray(picture)).all()
    assert (frames[1] != frames[0]).any()
    assert run_sweep(photos / "a.png", tmp_path / "out", model, "--format", "webp", "--lossless") == 0
    with Image.open(next((tmp_path / "out").glob("*.webp"))) as animation:
        assert (np.asarray(animation.convert("RGB")) == frames[0]).all()
        animation.seek(2)
        assert (np.asarray(animation.convert("RGB")) == frames[1]).all()


def test_second_run_makes_nothing_and_loads_nothing(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch that was done must not be rendered again, nor its manifest grow."""
    out = tmp_path / "out"
    assert run_sweep(photos, out, model) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr(sweep_command, "open_engine", lambda args: pytest.fail("the model was loaded"))
    capsys.readouterr()
    assert run_sweep(photos, out, model) == 0
    assert "0 written, 2 there already, 0 failed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("flags", [["--seed", "1"], ["--steps", "3"], ["--bounce"], ["--fps", "5"], ["--size", "16"]])
def test_other_options_make_another_file(photos: Path, tmp_path: Path, model: str, flags: list[str]) -> None:
    """A file made with other options, taken for this one, would be silently wrong; replaced, it would be lost."""
    out = tmp_path / "out"
    assert run_sweep(photos / "a.png", out, model) == 0
    assert run_sweep(photos / "a.png", out, model, *flags) == 0
    assert len(results(out)) == len(manifest(out)) == 2


def test_changed_source_is_made_again(photos: Path, tmp_path: Path, model: str) -> None:
    """The name stayed, the picture did not: its old sweep is no longer its sweep."""
    out = tmp_path / "out"
    run_sweep(photos / "a.png", out, model)
    tiny_image(48, 32, seed=9).save(photos / "a.png")
    run_sweep(photos / "a.png", out, model)
    assert len(results(out)) == 2
    assert len({line["source_sha256"] for line in manifest(out)}) == 2


def test_overwrite_makes_again(photos: Path, tmp_path: Path, model: str) -> None:
    """After a model folder's weights change, its results have to be made again under the same names."""
    out = tmp_path / "out"
    run_sweep(photos / "a.png", out, model)
    before = (out / results(out)[0]).stat().st_mtime_ns
    assert run_sweep(photos / "a.png", out, model, "--overwrite") == 0
    assert len(manifest(out)) == 1
    assert (out / results(out)[0]).stat().st_mtime_ns > before


def test_same_names_in_different_folders(photos: Path, tmp_path: Path, model: str) -> None:
    """IMG_0001.jpg exists in every camera folder, sometimes as the very same bytes."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((photos / "a.png").read_bytes())
    out = tmp_path / "out"
    assert run_sweep([photos / "a.png", other / "a.png"], out, model) == 0
    assert len(results(out)) == len({line["source"] for line in manifest(out)}) == 2


def test_a_picture_named_twice_is_made_once(photos: Path, tmp_path: Path, model: str) -> None:
    """A file and the pattern that finds it are one picture."""
    out = tmp_path / "out"
    assert run_sweep([photos / "a.png", photos, photos / "*.png", photos / ".." / "photos" / "a.png"], out, model) == 0
    assert len(results(out)) == 2


def test_results_are_not_taken_for_sources(photos: Path, model: str) -> None:
    """With the results beside the pictures, every further run would make sweeps of sweeps."""
    assert run_sweep(photos, photos, model) == 0
    assert run_sweep(photos, photos, model) == 0
    assert len(manifest(photos)) == 2


def test_broken_pictures_are_told_and_do_not_stop_the_rest(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken file among thousands must not cost the night's work, nor go unnoticed."""
    (photos / "0_broken.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "0_empty.jpg").write_bytes(b"")
    out = tmp_path / "out"
    assert run_sweep([photos, tmp_path / "absent.png", tmp_path], out, model) == 1
    told = capsys.readouterr()
    for name in ("0_broken.png", "0_empty.jpg", "absent.png", f"{tmp_path}: no pictures"):
        assert name in told.err
    assert "2 written, 0 there already, 4 failed" in told.out
    assert "Traceback" not in told.err
    assert len(manifest(out)) == 2


def test_stopped_and_started_again(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the second picture: the first stays, nothing partial is left, and the next run makes the rest only."""
    out, save = tmp_path / "out", batch.save_sweep

    def stop_at_second(frames, path, **options):
        if path.name.startswith("b-"):
            raise KeyboardInterrupt
        return save(frames, path, **options)

    monkeypatch.setattr(batch, "save_sweep", stop_at_second)
    assert run_sweep(photos, out, model) == 130
    assert "goes on" in capsys.readouterr().err
    assert [name[:2] for name in results(out)] == ["a-"]
    monkeypatch.setattr(batch, "save_sweep", save)
    assert run_sweep(photos, out, model) == 0
    assert "1 written, 1 there already" in capsys.readouterr().out
    assert [Path(line["source"]).name for line in manifest(out)] == ["a.png", "b.jpg"]


def test_killed_between_a_file_and_its_line(photos: Path, tmp_path: Path, model: str) -> None:
    """A kill leaves a whole file and half a manifest line: the line is written again, in a line of its own."""
    out = tmp_path / "out"
    run_sweep(photos, out, model)
    text = (out / "manifest.jsonl").read_text()
    whole = manifest(out)
    (out / "manifest.jsonl").write_text(text[: len(text) - 40])
    assert run_sweep(photos, out, model) == 0
    first, cut, again = (out / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(first), json.loads(again)] == whole
    with pytest.raises(ValueError):
        json.loads(cut)


def test_a_foreign_file_in_a_results_place(photos: Path, tmp_path: Path, model: str) -> None:
    """A name alone proves nothing: what does not say itself that it is this sweep is made anew."""
    out = tmp_path / "out"
    run_sweep(photos / "a.png", out, model)
    (out / results(out)[0]).write_bytes(b"GIF89a, or so it says")
    assert run_sweep(photos / "a.png", out, model) == 0
    assert read_metadata(out / results(out)[0])["instruction"] == "make it snow"


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
        ["--fps", "5", "--duration", "2"],
        ["--format", "avi"],
        ["-i", "  "],
        ["--strenght", "1"],
        ["--dtype", "int8"],
        ["--bounce", "--format", "zip"],
        ["--captions"],
        ["--lossless", "--format", "mp4"],
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


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["-s", "1.6"], 2, "or up to 1.5"),
        (["-s", "nan"], 2, "or up to 1.5"),
        (["-o", "out.avi"], 2, ".png"),
        (["-o", "PHOTO"], 2, "the source itself"),
        (["--model", "/no/such/folder"], 2, "no model"),
    ],
)
def test_wrong_edits_get_a_sentence(
    flags: list[str], status: int, words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above all, `-o` naming the source must not destroy a photograph."""
    photo = photos / "a.png"
    before = photo.read_bytes()
    flags = [str(photo) if flag == "PHOTO" else flag for flag in flags]
    assert status_of(["edit", str(photo), *SNOW, "-o", str(tmp_path / "out.png"), *flags]) == status
    assert words in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_frames_are_kept_where_asked(photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second sweep of the same picture in another format renders everything again; or frames are kept unasked."""
    frames = tmp_path / "frames"
    assert run_sweep(photos / "a.png", tmp_path / "out", model, "--frame-folder", str(frames), "--quiet") == 0
    kept = {path: path.stat().st_ino for path in frames.iterdir()}
    assert len(kept) == 2  # 0 is the source
    words = ["edit", str(photos / "a.png"), *SNOW, "-s", "0.5", "-o", str(tmp_path / "out.png"), "--model", model]
    monkeypatch.setattr("kontext_slider.engine.sampling.denoise", lambda *_: pytest.fail("rendered again"))
    assert main([*words, "--quiet", "--frame-folder", str(frames)]) == 0
    assert {path: path.stat().st_ino for path in frames.iterdir()} == kept


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
    assert (asked["quantize"], asked["spare_memory"], asked["device"]) == ("int8", False, "cpu")
    assert (asked["compiled"], asked["speed"]) == (True, "fast")
    for flags, compiled in ([], None), (["--no-compile"], False):
        assert main([*words, *flags]) == 0
        assert asked["compiled"] is compiled


def test_unreadable_picture_of_an_edit(
    tmp_path: Path, photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, a sentence with the file's name, and no result."""
    words = ["edit", str(photos / "notes.txt"), *SNOW, "-o", str(tmp_path / "out.png"), "--model", model]
    assert main(words) == 1
    assert "notes.txt" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_out_is_a_file(photos: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """mkdir's FileExistsError is no sentence."""
    assert run_sweep(photos, photos / "a.png", model) == 2
    assert "cannot be made" in capsys.readouterr().err


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
    assert "no file nowhere.gif" in told.err and "a.png does not say" in told.err


def test_the_folder_of_a_result_is_made_before_the_work(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """A folder that is not there, found out after minutes of rendering, throws them away."""
    out = tmp_path / "new" / "deep" / "a.png"
    words = ["edit", str(photos / "a.png"), *SNOW, "--model", model, "--quiet", "-o"]
    assert main([*words, str(out)]) == 0 and out.exists()
    assert main([*words, str(photos / "a.png" / "b.png"), "--model", "no-such-model"]) == 2
    assert "cannot be made" in capsys.readouterr().err


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


def test_python_dash_m() -> None:
    """The command without its console script, as in a checkout that is not installed."""
    done = subprocess.run([sys.executable, "-m", "kontext_slider"], capture_output=True, text=True)
    assert done.returncode == 2 and "sweep" in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_unwritable_result_is_a_problem_of_that_picture(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk ends in sentences and status 1, and leaves no line for a file that is not there."""

    def fail(*_, **__):
        raise InvalidInput("Could not write: choose a folder that has room.")

    monkeypatch.setattr(batch, "save_sweep", fail)
    assert run_sweep(photos, tmp_path / "out", model) == 1
    assert "0 written" in capsys.readouterr().out
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def status_of(words: list[str]) -> int | str | None:
    """The exit status, whether `main` returns it or argparse leaves with it."""
    try:
        return main(words)
    except SystemExit as leave:
        return leave.code
