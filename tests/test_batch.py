"""Batches: what a result's name is made of, and disks, folders and names of every kind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest

from kontext_slider.batch import SweepOptions, Task, find_images, plan_sweeps, plan_task, run_sweeps
from kontext_slider.cli import build_parser, main
from kontext_slider.engine import SliderEngine
from kontext_slider.metadata import read_metadata
from tests.mounts import as_nobody, immutable, mounted
from tests.tiny import KNOWN_INSTRUCTIONS, tiny_image, tiny_pipeline

ROOT = Path(__file__).parents[1]
# Flags of `sweep` that a result's name need not hold, as they change no pixel of it.
PLACES = {"command", "module", "images", "out", "quiet", "frame_folder"}
ROUNDING = {"device", "low_vram"}  # the same computation elsewhere: a batch may go on on another machine


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        tiny_image(32, 32, seed=seed).save(folder / name)
    return folder


def sweep(photos: Path, out: Path, model: str, *flags: str) -> int:
    words = ["sweep", str(photos), "-i", "make it snow", "--device", "cpu", "--out", str(out), "--model", model]
    return main([*words, "-n", "2", "--format", "zip", *flags])


def listed(out: Path) -> list[str]:
    return [json.loads(line)["file"] for line in (out / "manifest.jsonl").read_text().splitlines()]


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the pictures that an engine opens during the block."""
    names: list[str] = []
    open_edit = SliderEngine.open

    def note(self: SliderEngine, image: Path, *words: object, **settings: object) -> object:
        names.append(Path(image).name)
        return open_edit(self, image, *words, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(SliderEngine, "open", note)
        yield names


def test_every_flag_that_changes_pixels_changes_the_name(tmp_path: Path) -> None:
    """`--speed exact` kept the files of `--speed fastest`. A new flag has to be put in one of the three sets."""
    flags = set(vars(build_parser(["sweep"]).parse_args(["sweep", "a.png", "-i", "add fog"])))
    of_pixels = {field.name for field in fields(SweepOptions)}
    assert flags - {"instructions", "strengths"} == of_pixels - {"instruction", "earlier_edits"} | PLACES | ROUNDING
    assert not of_pixels & (PLACES | ROUNDING)
    source = tmp_path / "a.png"
    source.write_bytes(b"any")
    options = SweepOptions("add fog")
    others = [replace(options, **{name: f"{getattr(options, name)}+"}) for name in of_pixels - {"format"}]
    targets = {plan_task(source, each, tmp_path).target for each in [options, replace(options, format="mp4"), *others]}
    assert len(targets) == len(of_pixels) + 1


def test_names_of_earlier_versions_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new option gave every result another name, and the first run after an update made all of them again."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"any")
    assert plan_task(Path("a.png"), SweepOptions("add fog"), Path("out")).target.name == "a-95bc946e59.gif"


def test_other_edits_before_the_last_change_the_name(tmp_path: Path) -> None:
    """A sweep of another chain that ends in the same words was taken for done."""
    source, options = tmp_path / "a.png", SweepOptions("add fog")
    source.write_bytes(b"any")
    others = [replace(options, earlier_edits=edits) for edits in ((("snow", 0.5),), (("snow", 0.6),), (("x", 0.5),))]
    assert len({plan_task(source, each, tmp_path).target for each in (options, *others)}) == 4


def test_another_speed_is_made_anew(photos: Path, tmp_path: Path, model: str) -> None:
    """A quick look at a batch stayed for good, under the name of the exact one."""
    assert sweep(photos / "a.png", tmp_path / "out", model, "--speed", "fastest") == 0
    assert sweep(photos / "a.png", tmp_path / "out", model) == 0
    assert [read_metadata(tmp_path / "out" / name)["speed"] for name in listed(tmp_path / "out")] == [
        "fastest",
        "exact",
    ]


@pytest.mark.parametrize(("letter", "count"), [("北", 81), ("é", 120), ("😀", 60), ("a", 250)])
def test_long_names(letter: str, count: int, tmp_path: Path, model: str) -> None:
    """A name of 81 Chinese letters ended the whole sweep with a traceback: file systems count bytes."""
    out, photos = tmp_path / "out", tmp_path / "photos"
    photos.mkdir()
    for name in ("0.png", f"{letter * count}.png"):
        tiny_image(32, 32).save(photos / name)
    assert sweep(photos, out, model) == 0
    first, second = listed(out)
    assert first.startswith("0-") and second.startswith(letter * 30)
    assert len(os.fsencode(second)) <= 143  # what an encrypted home folder takes
    assert sweep(photos, out, model) == 0 and len(listed(out)) == 2


def test_a_name_that_is_no_text(tmp_path: Path, model: str) -> None:
    """A file from an old disk whose name is no UTF-8 is a picture like others."""
    photos = tmp_path / "photos"
    photos.mkdir()
    path = os.fsencode(photos) + b"/caf\xe9.png"
    try:
        tiny_image(32, 32).save(os.fsdecode(path))
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    assert sweep(photos, tmp_path / "out", model) == 0
    assert listed(tmp_path / "out")[0].startswith("caf-")


def test_a_full_disk_stops_the_batch(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every further picture would be rendered for minutes and thrown away, a whole night long."""
    with mounted(tmp_path / "out", "-t", "tmpfs", "-o", "size=8k", "tmpfs") as out, opened(monkeypatch) as names:
        (out / "filler").write_bytes(b"x" * 8192)
        assert sweep(photos, out, model) == 1
        assert [path.name for path in out.iterdir()] == ["filler"]
    assert names == ["a.png"]
    told = capsys.readouterr()
    assert told.err.count("No space left on device") == 1 and "stops here, 2 more to go" in told.err
    assert "Traceback" not in told.err and "0 written" in told.out


def test_a_disk_that_fills_between_a_result_and_its_line(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback; and the finished result must be listed, not made again, once there is room."""
    assert sweep(photos / "a.png", tmp_path / "first", model) == 0
    [result] = (tmp_path / "first").glob("*.zip")
    pages = -(-result.stat().st_size // 4096)
    with mounted(tmp_path / "out", "-t", "tmpfs", "-o", f"size={4 * pages + 4}k", "tmpfs") as out:
        (out / "filler").write_bytes(b"x" * 4096)
        capsys.readouterr()
        assert sweep(photos, out, model) == 1
        told = capsys.readouterr()
        assert "manifest.jsonl (No space left on device)" in told.err and "2 more to go" in told.err
        assert "1 written" in told.out and "Traceback" not in told.err
        assert (out / result.name).read_bytes() == result.read_bytes()
        assert sweep(photos / "a.png", out, model) == 1  # still full: told at once, before a model is loaded
        assert "No space left" in capsys.readouterr().err
        (out / "filler").unlink()
        assert sweep(photos / "a.png", out, model) == 0
        assert "0 written, 1 there already, 0 failed" in capsys.readouterr().out
        assert listed(out) == [result.name]


def test_a_read_only_folder_is_told_before_the_work(
    photos: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found out after the first sweep, and then by a traceback."""
    with mounted(tmp_path / "out", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs") as out, opened(monkeypatch) as names:
        assert sweep(photos, out, model) == 1
        words = ["edit", str(photos / "a.png"), "-i", "make it snow", "-o", str(out / "a.png"), "--model", model]
        assert main(words) == 1
    told = capsys.readouterr().err
    assert names == [] and told.count("Read-only file system") == 2 and "Traceback" not in told


def test_a_manifest_that_cannot_be_written_to(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results are written all the same, and each says which line is missing."""
    out = tmp_path / "out"
    assert sweep(photos / "a.png", out, model) == 0
    with immutable(out / "manifest.jsonl"):
        capsys.readouterr()
        assert sweep(photos, out, model) == 1
        told = capsys.readouterr()
        assert told.err.count("Operation not permitted") == 2 and "Traceback" not in told.err
        assert "b.png" in told.err and "c.png" in told.err and "2 written, 1 there already" in told.out
        assert sweep(photos, out, model) == 1
        assert "0 written, 3 there already, 1 failed" in capsys.readouterr().out
    assert sweep(photos, out, model) == 0
    assert len(listed(out)) == 3


def test_a_manifest_that_is_no_file(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """Without it, nobody knows which pictures of the folder are results: nothing is rendered."""
    (tmp_path / "out" / "manifest.jsonl").mkdir(parents=True)
    assert sweep(photos, tmp_path / "out", model) == 2
    assert "manifest.jsonl' is a folder. Give the path of one file" in capsys.readouterr().err


def test_a_folder_in_a_results_place(photos: Path, tmp_path: Path, model: str, capsys) -> None:
    """One name that cannot be written to is that picture's trouble only."""
    out = tmp_path / "out"
    assert sweep(photos, out, model) == 0
    (out / listed(out)[0]).unlink()
    (out / listed(out)[0]).mkdir()
    (out / listed(out)[2]).unlink()
    assert sweep(photos, out, model) == 1
    told = capsys.readouterr()
    assert "1 written, 1 there already, 1 failed" in told.out and "Is a directory" in told.err


@pytest.mark.parametrize("link", ["hard", "symbolic", "spelling"])
def test_the_source_under_another_name_is_not_written_over(link: str, photos: Path, tmp_path: Path, capsys) -> None:
    """The photograph would be lost, whatever it is called on the command line."""
    photo, out = photos / "a.png", tmp_path / "other.png"
    if link == "hard":
        os.link(photo, out)
    elif link == "symbolic":
        out.symlink_to(photo)
    else:
        out = photos / ".." / "photos" / "a.png"
    before = photo.read_bytes()
    assert main(["edit", str(photo), "-i", "make it snow", "-o", str(out), "--model", "no-such-model"]) == 2
    assert "the source itself" in capsys.readouterr().err and photo.read_bytes() == before


def test_a_picture_that_goes_away_meanwhile(photos: Path, tmp_path: Path, model: str) -> None:
    """A card that is pulled out in the middle of a batch: one sentence for each picture that was on it."""
    plan = plan_sweeps(sorted(photos.iterdir()), SweepOptions("make it snow", num_strengths=2, format="zip"), tmp_path)
    (photos / "b.png").unlink()
    engine = SliderEngine(tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS))
    done: list[Task] = []
    options = SweepOptions("make it snow", num_strengths=2, format="zip")
    num_written, problems = run_sweeps(engine, plan.pending, options, on_task=done.append)
    assert num_written == 2 and len(done) == 3
    assert len(problems) == 1 and "b.png" in problems[0]


def test_frames_are_encoded_while_others_are_rendered(photos: Path, tmp_path: Path) -> None:
    """Frames that wait for the last one fill the memory."""
    options, out = SweepOptions("make it snow", num_strengths=6, format="zip"), tmp_path / "out"
    out.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png")):
        tiny_image(300, 300, seed=seed).save(photos / name)
    plan = plan_sweeps([photos / "a.png"], replace(options, full_size=True), out)
    engine = SliderEngine(tiny_pipeline(known_instructions=KNOWN_INSTRUCTIONS))
    sizes: list[int] = []

    def note() -> None:
        sizes.append(sum(path.stat().st_size for path in out.iterdir()))

    assert run_sweeps(engine, plan.pending, replace(options, full_size=True), on_frame=note) == (1, [])
    assert len(sizes) == 6 and sizes[0] < sizes[2] < sizes[5]


def test_a_name_that_the_terminal_has_no_letters_for(tmp_path: Path) -> None:
    """On Windows, output that goes to a file is not in Unicode: the batch ended with a traceback after its work."""
    words = [
        sys.executable,
        "-m",
        "kontext_slider",
        "sweep",
        "absent.png",
        "-i",
        "add fog",
        "--out",
        str(tmp_path / "北"),
    ]
    done = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, cwd=ROOT)
    assert done.returncode == 1 and b"\\u5317" in done.stdout and b"Traceback" not in done.stderr


def test_a_folder_that_cannot_be_listed_is_one_sentence() -> None:
    """Its PermissionError ended the whole batch with a traceback."""
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others than their owner
    try:
        place.chmod(0o755)
        for name in ("open", "closed"):
            (place / name).mkdir()
            (place / name / "a.png").write_bytes(b"a")
        (place / "closed").chmod(0o000)
        with as_nobody():
            found, problems = find_images([str(place / "closed"), str(place / "open"), str(place / "closed" / "a.png")])
        assert found == [place / "open" / "a.png"]
        assert "cannot be listed (Permission denied)" in problems[0]
        assert "no such picture" in problems[1] and len(problems) == 2
    finally:
        shutil.rmtree(place)


def test_names_that_no_disk_can_have() -> None:
    """A name of more than 255 bytes is an OSError and an unknown user's home a RuntimeError, not a False."""
    words = ["x" * 300, "~nobody-of-this-name/a.png", "北" * 100]
    found, problems = find_images(words)
    assert found == [] and len(problems) == 3 and all("no such picture" in problem for problem in problems)


def test_phone_photographs_are_found(tmp_path: Path) -> None:
    """A folder from a phone looked empty."""
    for name in ("IMG_0001.HEIC", "b.JPG", "c.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    found, _ = find_images([str(tmp_path)], leave_out={tmp_path / "d.png"})
    assert [path.name for path in found] == ["IMG_0001.HEIC", "b.JPG"]


def test_what_is_left_out_can_still_be_named(tmp_path: Path) -> None:
    """Results are not swept again with their folder, but somebody may want to edit one."""
    (tmp_path / "a.png").write_bytes(b"")
    assert find_images([str(tmp_path)], [tmp_path / "a.png"])[0] == []
    assert find_images([str(tmp_path / "a.png")], [tmp_path / "a.png"])[0] == [tmp_path / "a.png"]


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "mp4", "zip"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_result_that_is_cut_short_is_made_again(kind, is_listed, photos, tmp_path, model, monkeypatch) -> None:
    """A GIF or a PNG of 30 % was taken for done, and one MP4 of 90 % ended the whole batch."""
    out = tmp_path / "out"
    assert sweep(photos, out, model, "--format", kind) == 0
    first, *others = sorted(out.glob(f"*.{kind}"))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) * 9 // 10])
    if not is_listed:  # a stop between the files and their lines
        (out / "manifest.jsonl").unlink()
    with opened(monkeypatch) as names:
        assert sweep(photos, out, model, "--format", kind) == 0
    assert names == ["a.png"] and first.read_bytes() == whole
    assert len(set(listed(out))) == 3


def test_a_result_that_was_changed_is_made_again(photos, tmp_path, model, monkeypatch) -> None:
    """A frame that another program has written over still says that it is this sweep."""
    out = tmp_path / "out"
    assert sweep(photos / "a.png", out, model) == 0
    (result,) = out.glob("*.zip")
    data = bytearray(whole := result.read_bytes())
    data[200] ^= 1  # in the first picture
    result.write_bytes(bytes(data))
    with opened(monkeypatch) as names:
        assert sweep(photos / "a.png", out, model) == 0
        assert sweep(photos / "a.png", out, model) == 0
    assert names == ["a.png"] and result.read_bytes() == whole


@pytest.mark.parametrize("line", ['{"file": 1}', "1", "[" * 100_000, '{"file": "a\\u0000b"}', '{"result_sha256": []}'])
def test_a_damaged_line_of_the_manifest_is_left_out(line, photos, tmp_path, model) -> None:
    """`{"file": 1}` ended the batch with a traceback."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text(line + "\n")
    assert sweep(photos / "a.png", out, model) == 0
