"""`kontext-slider sweep`: batches that stop, go on and meet broken pictures; sweeps at the photograph's own size."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kontext_slider import batch
from kontext_slider.cli import main
from kontext_slider.cli import sweep as sweep_command
from kontext_slider.engine.sampling import Sampler
from kontext_slider.errors import InvalidInput
from kontext_slider.export import FORMATS
from kontext_slider.metadata import read_metadata
from tests.cli.helpers import SNOW, edit, manifest, results, run_sweep, sweep_file
from tests.tiny import tiny_image


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
    assert run_sweep(photos / "a.png", tmp_path / "out", model, "--format", "zip") == 0
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.zip"))) as archive:
        first, _, last, _ = (io.BytesIO(archive.read(name)) for name in archive.namelist())
        assert (np.asarray(Image.open(first)) == frames[0]).all()
        assert (np.asarray(Image.open(last)) == frames[1]).all()


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


@pytest.mark.parametrize("flags", [["--seed", "1"], ["--steps", "3"], ["--fps", "5"], ["--size", "16"]])
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


def test_even_steps_are_found_again(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run cannot know the strengths without the model, and rendered the whole batch again."""
    out = tmp_path / "out"
    assert run_sweep(photos, out, model) == run_sweep(photos, out, model, "--even") == 0
    plain = [line for line in manifest(out) if "even_steps" not in line]
    even = [line for line in manifest(out) if line.get("even_steps") is True]
    assert [line["strengths"] for line in plain] == 2 * [[0.0, 0.5, 1.0]] and len(even) == 2
    for line in even:
        first, middle, last = line["strengths"]
        assert first == 0 and last == 1 and 0 < middle < 1 and middle != 0.5
        assert read_metadata(out / line["file"])["strengths"] == line["strengths"]
    monkeypatch.setattr(sweep_command, "open_engine", lambda args: pytest.fail("the model was loaded"))
    capsys.readouterr()
    assert run_sweep(photos, out, model, "--even") == 0
    assert "0 written, 2 there already, 0 failed" in capsys.readouterr().out


def test_even_steps_show_the_frames_of_their_strengths(photos: Path, tmp_path: Path, model: str) -> None:
    """The caption says one strength and the picture shows another."""
    path = sweep_file(photos / "a.png", tmp_path / "out", model, "--format", "zip", "--even")
    middle = read_metadata(path)["strengths"][1]
    words = ["edit", str(photos / "a.png"), *SNOW, "-s", str(middle), "-o", str(tmp_path / "b.png"), "--model", model]
    assert main([*words, "--working-size", "--quiet"]) == 0
    with zipfile.ZipFile(path) as archive, Image.open(tmp_path / "b.png") as alone:
        shown = np.asarray(Image.open(io.BytesIO(archive.read(archive.namelist()[1]))))
        assert np.abs(shown.astype(int) - np.asarray(alone)).max() <= 1


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


def test_out_is_a_file(photos: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """mkdir's FileExistsError is no sentence."""
    assert run_sweep(photos, photos / "a.png", model) == 2
    assert "cannot be made" in capsys.readouterr().err


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


@pytest.mark.parametrize("format", ["zip", "png"])
def test_a_sweep_at_full_size(format: str, photo: Path, tmp_path: Path, model: str) -> None:
    """Every picture of it is what `edit` writes, and the first the photograph itself."""
    edit(photo, tmp_path / "edit.png", model, "--quiet")
    full = sweep_file(photo, tmp_path / "full", model, "--format", format, "--full-size")
    small = sweep_file(photo, tmp_path / "small", model, "--format", format)
    assert read_metadata(full)["size"] == [240, 160] and read_metadata(small)["size"] != [240, 160]
    assert read_metadata(small)["size"] == read_metadata(small)["edited_at"] == read_metadata(full)["edited_at"]
    if format == "zip":
        with zipfile.ZipFile(full) as archive:
            pictures = [Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()[:-1]]
    else:
        with Image.open(full) as strip:
            pictures = [strip.crop((240 * k, 0, 240 * k + 240, 160)) for k in range(3)]
    with Image.open(photo) as first, Image.open(tmp_path / "edit.png") as last:
        assert (np.asarray(pictures[0]) == np.asarray(first)).all()
        assert (np.asarray(pictures[-1]) == np.asarray(last)).all()


@pytest.mark.parametrize(
    ("flags", "size"), [([], [240, 160]), (["--width", "60"], [60, 40]), (["--width", "900"], [240, 160])]
)
@pytest.mark.parametrize("format", ["gif", "webp", "mp4"])
def test_the_width_of_an_animation(
    format: str, flags: list[str], size: list[int], photo: Path, tmp_path: Path, model: str
) -> None:
    """Animations showed the model's small frames; enlarged beyond the photograph, they would only be larger files."""
    path = sweep_file(photo, tmp_path / "out", model, "--format", format, *flags)
    assert read_metadata(path)["size"] == size
    if format != "mp4":
        with Image.open(path) as animation:
            assert list(animation.size) == size and animation.n_frames == 3


def test_a_large_photographs_animation_is_scaled_down(tmp_path: Path, model: str) -> None:
    """A GIF of 24 megapixels a frame is of no use to anybody."""
    tiny_image(48, 32, seed=1).resize((1500, 1000)).save(tmp_path / "a.png")
    assert read_metadata(sweep_file(tmp_path / "a.png", tmp_path / "out", model))["size"] == [1024, 683]


@pytest.mark.parametrize("flags", [["--full-size"], ["--width", "64", "--format", "zip"]])
def test_flags_that_do_not_fit_the_format(flags: list[str], photo: Path, tmp_path: Path, model: str, capsys) -> None:
    """A flag that a format cannot obey is not ignored."""
    assert main(["sweep", str(photo), *SNOW, "--out", str(tmp_path / "out"), "--model", model, *flags]) == 2
    assert flags[0] in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_last_of_several_edits_is_swept(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """A sweep that starts from the untouched photograph shows another edit than the page's second slider."""
    night = ["-i", "make it night", "-s", "0.6", *SNOW, "--format", "zip", "--full-size"]
    words = ["sweep", str(photos / "a.png"), *night, "--out", str(tmp_path / "out"), "--model", model, "-n", "2"]
    assert main(words) == 0
    [line] = manifest(tmp_path / "out")
    assert line["instruction"] == "make it snow" and line["strengths"] == [0, 1]
    assert [(edit["instruction"], edit["strength"]) for edit in line["earlier_edits"]] == [("make it night", 0.6)]
    first = ["edit", str(photos / "a.png"), *night[:4], "-o", str(tmp_path / "night.png"), "--model", model]
    assert main(first) == 0
    with zipfile.ZipFile(tmp_path / "out" / line["file"]) as archive, Image.open(tmp_path / "night.png") as picture:
        start = Image.open(io.BytesIO(archive.read("frame_000_s0.000.png")))
        assert (np.asarray(start) == np.asarray(picture)).all()
    assert main(words) == 0 and len(manifest(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-s", "0.5"], "A sweep has all strengths"),
        (["-i", "add fog", "-s", "0.5", "-s", "0.2"], "1 edits (-i) before the last, which is swept, but 2 -s"),
        (["-i", "add fog", "-s", "1.2"], "up to 1, not 1.2"),
    ],
)
def test_strengths_that_no_sweep_can_have(flags: list[str], words: str, photos: Path, tmp_path: Path, capsys) -> None:
    """A flag that is taken and ignored."""
    assert main(["sweep", str(photos), *SNOW, *flags, "--out", str(tmp_path / "out"), "--model", "no-such"]) == 2
    assert words in capsys.readouterr().err
