"""The temporary folder: whose it is, and when it goes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.ui.edits import size_of
from kontext_slider.ui.folder import PREFIX, DiskFull, needs_room, own_folder


def folders(root) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_is_new_and_goes_with_its_lock(tmp_path, monkeypatch):
    """Two processes in one folder would delete each other's frames."""
    root = tmp_path / "root"
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with own_folder(root) as first:
        assert os.environ["GRADIO_TEMP_DIR"] == str(first)
        with own_folder(root) as second:
            assert first != second and first.is_dir() and second.is_dir()
            (second / "frame.png").write_bytes(b"x" * 10)
            assert size_of(second) == 10
        assert folders(root) == [first.name]
    assert not list(root.glob(f"{PREFIX}[0-9]*")) and "GRADIO_TEMP_DIR" not in os.environ


def test_what_a_dead_process_left_goes_at_the_next_start(tmp_path):
    """Nothing took away photographs that a killed process had left, so the disk filled over the weeks."""
    dead = tmp_path / f"{PREFIX}{dead_process()}-abcd"
    dead.mkdir()
    (dead / "frame.png").write_bytes(b"x")
    other = tmp_path / "somebody-elses"
    other.mkdir()
    with own_folder(tmp_path) as own:
        assert folders(tmp_path) == sorted([own.name, other.name])


def test_a_living_process_whose_lock_file_was_deleted_keeps_its_folder(tmp_path):
    """Somebody cleans the temporary folder while the app runs; the next app that starts took the rest."""
    alive = tmp_path / f"{PREFIX}{os.getppid()}-abcd"
    alive.mkdir()
    with own_folder(tmp_path):
        assert alive.is_dir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(number):
    """ "[Errno 28] No space left on device" says to nobody what to do."""
    with pytest.raises(DiskFull, match="disk of the server is full"), needs_room():
        raise OSError(number, "no room")
    with pytest.raises(DiskFull), needs_room():
        try:
            raise OSError(number, "no room")
        except OSError as error:
            raise InvalidInput("Could not write it.") from error


def test_other_errors_are_not_taken_for_a_full_disk():
    """A missing right is not mended by room."""
    with pytest.raises(PermissionError), needs_room():
        raise PermissionError(errno.EACCES, "no right")
    with pytest.raises(InvalidInput, match="seed"), needs_room():
        raise InvalidInput("The seed is a number.")
