"""What the words of a command line name, in folders of every kind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from kontext_slider.image_search import find_images
from tests.mounts import as_nobody


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
