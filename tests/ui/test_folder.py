"""The temporary folder: whose it is, and when it goes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from kontext_slider.errors import InvalidInput
from kontext_slider.ui.folder import PREFIX, DiskFull, claim_folder, needs_room, size_of


def folders(root) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_claimed_folder_is_new_and_goes_with_its_lock(tmp_path):
    """Two processes in one folder would delete each other's frames."""
    first, second = claim_folder(tmp_path / "root"), claim_folder(tmp_path / "root")
    assert first.path != second.path and first.path.is_dir() and second.path.is_dir()
    (first.path / "frame.png").write_bytes(b"x" * 10)
    assert size_of(first.path) == 10
    first.remove()
    assert folders(tmp_path / "root") == [second.path.name]
    second.remove()
    assert not list((tmp_path / "root").glob(f"{PREFIX}[0-9]*"))


def test_what_a_dead_process_left_goes_at_the_next_claim(tmp_path):
    """Nothing took away photographs that a killed process had left, so the disk filled over the weeks."""
    dead = tmp_path / f"{PREFIX}{dead_process()}-abcd"
    dead.mkdir()
    (dead / "frame.png").write_bytes(b"x")
    other = tmp_path / "somebody-elses"
    other.mkdir()
    own = claim_folder(tmp_path)
    assert folders(tmp_path) == sorted([own.path.name, other.name])
    own.remove()


def test_a_living_process_whose_lock_file_was_deleted_keeps_its_folder(tmp_path):
    """Somebody cleans the temporary folder while the app runs; the next app that starts took the rest."""
    alive = tmp_path / f"{PREFIX}{os.getppid()}-abcd"
    alive.mkdir()
    own = claim_folder(tmp_path)
    assert alive.is_dir()
    own.remove()


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
