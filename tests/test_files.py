"""Files on disks that are full, read-only or forbidden: real mounts where the tests run as root."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kontext_slider.errors import DiskError, InvalidInput
from kontext_slider.files import (
    append_json_line,
    cut_json_lines,
    cut_to_bytes,
    file_sha256,
    json_sha256,
    make_folder,
    open_whole,
    put_in_place,
    read_json_lines,
    read_regular,
    write_whole,
    writing,
)
from kontext_slider.run_folder import open_run, read_run
from tests.mounts import mounted


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB with 8 KiB left."""
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as folder:
        (folder / "filler").write_bytes(b"x" * 248 * 1024)
        yield folder


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder of a read-only file system that holds one file."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "old.txt").write_bytes(b"old")
    with mounted(tmp_path / "read_only", "--bind", str(tmp_path / "below")) as folder:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield folder


def test_a_full_disk_is_told_and_nothing_is_left(full: Path) -> None:
    """Half a file would pass for a result, and its temporary would keep the disk full."""
    (full / "a.png").write_bytes(b"old")
    with pytest.raises(DiskError, match="No space left.*make room"):
        write_whole(full / "a.png", b"x" * 64 * 1024)
    assert sorted(path.name for path in full.iterdir()) == ["a.png", "filler"]
    assert (full / "a.png").read_bytes() == b"old"


def test_a_read_only_disk_is_told(read_only: Path) -> None:
    """Removing a temporary that was never made raised EROFS over the sentence: a traceback."""
    with pytest.raises(DiskError, match="Read-only file system"):
        write_whole(read_only / "old.txt", b"new")
    with pytest.raises(DiskError, match="Read-only file system"):
        append_json_line(read_only / "manifest.jsonl", {})
    with pytest.raises(DiskError, match="Read-only file system"):
        make_folder(read_only)
    with pytest.raises(DiskError, match="Read-only file system"):
        make_folder(read_only / "deeper")
    assert (read_only / "old.txt").read_bytes() == b"old"


@pytest.mark.parametrize("library", ["safetensors", "torch"])
def test_a_full_disk_is_told_where_a_library_has_its_own_words(full: Path, library: str) -> None:
    """A full disk ended training with SafetensorError, or torch's "unexpected pos", which names nothing."""
    tensors = {"a": torch.zeros(64 * 1024)}
    told = pytest.raises(DiskError, match=r"Could not write .*a\.bin \(No space left on device\): make room")
    with told, open_whole(full / "a.bin") as file:
        save_file(tensors, file.name) if library == "safetensors" else torch.save(tensors, file)
    assert [path.name for path in full.iterdir()] == ["filler"]


def test_what_says_nothing_of_a_disk_stays_as_it_is(tmp_path: Path) -> None:
    """A bug of a library must not be told as a disk's."""
    with pytest.raises(RuntimeError, match="sizes of tensors"), writing(tmp_path):
        raise RuntimeError("sizes of tensors")
    with pytest.raises(DiskError, match="Input/output error"), writing(tmp_path):
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError:
            raise RuntimeError("unexpected pos 4") from None


def test_a_line_on_a_full_disk(full: Path) -> None:
    """The error of a manifest was no sentence, and half its line must not spoil the next one."""
    lines = full / "manifest.jsonl"
    append_json_line(lines, {"file": "a"})
    with pytest.raises(DiskError, match="No space left"):
        append_json_line(lines, {"file": "b" * 64 * 1024})
    (full / "filler").unlink()
    append_json_line(lines, {"file": "c"})
    assert [value["file"] for value in read_json_lines(lines)] == ["a", "c"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_errors_of_a_disk_are_told_apart(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes a full disk for one picture's trouble renders the night through for nothing."""
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(DiskError, match=os.strerror(number)):
        write_whole(tmp_path / "a.png", b"new")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_one_name_is_no_error_of_the_disk(tmp_path: Path) -> None:
    """A folder in a result's place concerns that result only."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InvalidInput, match="Could not write") as told:
        write_whole(tmp_path / "a.png", b"new")
    assert not isinstance(told.value, DiskError)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between writing and renaming must leave the old file, and a failure no litter."""
    path = tmp_path / "a.png"
    write_whole(path, b"old")
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(InvalidInput, match="killed"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_the_first_error_is_the_one_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be removed after an error must not hide the error."""
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "second")))
    with pytest.raises(ZeroDivisionError), open_whole(tmp_path / "a.png"):
        raise ZeroDivisionError


def test_nobody_sees_a_file_before_it_is_whole(tmp_path: Path) -> None:
    """A folder that is watched, or swept again, would take a part for a picture."""
    with open_whole(tmp_path / ("é" * 127)) as file:  # 254 bytes: the temporary name must not be longer
        file.write(b"half")
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        file.write(b" and half")
    assert (tmp_path / ("é" * 127)).read_bytes() == b"half and half"


def test_what_is_put_in_place_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renamed before its bytes are written, a file is empty after a power cut, and the old one gone."""
    happened: list[str] = []
    synced, replaced = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (happened.append("fsync"), synced(file))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (happened.append("replace"), replaced(*names))[1])
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "weights").write_bytes(b"1")
    put_in_place(tmp_path / "new.partial", tmp_path / "new")
    assert happened == ["fsync", "replace"] and (tmp_path / "new" / "weights").exists()


def test_a_run_keeps_to_what_it_was_begun_with(tmp_path: Path) -> None:
    """Half a run with one seed and half with another, and no word of it."""
    note = tmp_path / "run" / "run.json"
    facts = {"seed": 1, "sizes": (32, 64), "place": Path("model")}
    noted = open_run(note, facts, {"starts": ["abc"]})
    assert open_run(note, facts) == noted == read_run(note) and noted["starts"] == ["abc"]
    with pytest.raises(InvalidInput, match=r"another seed \(1, not 2\).*run.json"):
        open_run(note, facts | {"seed": 2})
    with pytest.raises(InvalidInput, match="another rate"):
        open_run(note, facts | {"rate": 1.0})
    for corrupt in ("{", "", "3"):
        note.write_text(corrupt)
        with pytest.raises(InvalidInput, match="cannot be read.*delete the file"):
            open_run(note, facts)


def test_a_resumed_log_says_nothing_twice(tmp_path: Path) -> None:
    """Lines after the checkpoint are written again; a line that a kill cut short must not stay."""
    log = tmp_path / "log.jsonl"
    cut_json_lines(log, 3)
    assert not log.exists()
    log.write_text('{"step": 1}\n{"step": 3, "loss": 0.5}\n{"step": 4}\n{"st')
    cut_json_lines(log, 3)
    assert log.read_text() == '{"step": 1}\n{"step": 3, "loss": 0.5}\n'


def test_lines_that_are_cut_or_foreign_are_left_out(tmp_path: Path) -> None:
    """A kill cuts a line short; an editor leaves an empty one; a deep nest of brackets is a RecursionError."""
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path) == []
    path.write_bytes(b'{"a": 1}\n\n{"b":\n[2]\n\xff\n' + b"[" * 100_000 + b"\n")
    assert read_json_lines(path) == [{"a": 1}, [2]]
    with pytest.raises(InvalidInput, match="is a folder"):
        read_json_lines(tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """mkdir's FileExistsError and NotADirectoryError are no sentences."""
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidInput, match="cannot be made"):
            make_folder(folder)
    make_folder(tmp_path / "deep" / "er")
    assert list((tmp_path / "deep" / "er").iterdir()) == []


def test_a_name_is_cut_between_letters() -> None:
    """Half a letter is no text, and a limit in letters lets a Chinese name grow beyond what a file system takes."""
    assert cut_to_bytes("北京", 5) == "北" and cut_to_bytes("北京", 6) == "北京"
    assert cut_to_bytes("cat", 120) == "cat" and cut_to_bytes("😀a", 3) == ""
    assert cut_to_bytes("a\udcffb", 9) == "ab"  # a name that is no UTF-8, as Python reads it from a Linux folder


def test_digests(tmp_path: Path) -> None:
    """The order of names in an object is no difference; any value is."""
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf")
    assert json_sha256({"a": 1, "b": 2}) == json_sha256({"b": 2, "a": 1}) != json_sha256({"a": 1, "b": 3})
    assert json_sha256(["a\udcff"])  # a name that is no UTF-8


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_devices_are_not_read(device: str) -> None:
    """`edit /dev/full` read 21.7 GB, and `/dev/zero` never ended."""
    with pytest.raises(InvalidInput, match="no file but a device"):
        read_regular(device, 1000)


def test_only_files_are_read_and_only_of_the_size_that_is_allowed(tmp_path: Path) -> None:
    """A pipe was waited for, and a sparse file of 50 GB read to its end."""
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(50 * 10**9)
    (tmp_path / "a").write_bytes(b"abc")
    for name, words in (
        ("pipe", "a pipe"),
        ("sparse", "has 50,000 MB, and files of up to 0 MB"),
        (".", "is a folder"),
        ("none", "There is no file"),
        ("a\0b", "cannot be read"),
        ("\ud800", "cannot be read"),
    ):
        with pytest.raises(InvalidInput, match=words):
            read_regular(f"{tmp_path}/{name}", 1000)
    assert read_regular(tmp_path / "a", 3) == b"abc"
    with pytest.raises(InvalidInput, match="has 0 MB"):
        read_regular(tmp_path / "a", 2)
    with pytest.raises(InvalidInput, match="grows while it is read"):  # it says that it has no bytes
        read_regular("/proc/self/status", 10)


def test_what_a_killed_write_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    """Each kill of a batch left a hidden file of the result's size."""
    script = "import os, sys; from kontext_slider.files import open_whole\nwith open_whole(sys.argv[1]): os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.gif")])
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "b.gif")])
    parts = list(tmp_path.iterdir())
    assert len(parts) == 2
    for part in parts:
        os.utime(part, (0, 0))
    with open_whole(tmp_path / "a.gif") as writing:
        os.utime(writing.name, (0, 0))
        write_whole(tmp_path / "a.gif", b"another")  # leaves the one that is being written
        writing.write(b"whole")
    assert (tmp_path / "a.gif").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 2  # a.gif, and what the kill left of b.gif
