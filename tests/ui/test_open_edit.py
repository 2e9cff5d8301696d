"""An open edit: which frames it keeps, in which order they are made, and what goes when it closes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from kontext_slider.errors import SessionClosed
from kontext_slider.ui import edit_folder
from kontext_slider.ui.folder import DiskFull
from kontext_slider.ui.open_edit import OpenEdit
from tests.ui.fake_engine import FakeEngine

TIMEOUT = 30


def opened(folder: Path, steps: int = 2) -> OpenEdit:
    session = FakeEngine().open(Image.new("RGB", (64, 64), "teal"), "make it night", steps=steps)
    return OpenEdit(session, 1, [0.0, 1.0], "", str(folder))


def test_closing_deletes_files_and_ends_work(tmp_path):
    """A closed edit must give back its disk space, and a render that outlives it must not write there again."""
    edit = opened(tmp_path)
    edit.fill(1.0)
    edit.close()
    assert list(tmp_path.iterdir()) == []
    for work in (edit.fill, edit.show):
        with pytest.raises(SessionClosed):
            work(0.5)
    assert list(tmp_path.iterdir()) == []
    edit.close()  # twice is fine


def test_a_key_cannot_be_guessed(tmp_path):
    """Whoever guesses a number must not see another visitor's photograph."""
    one, other = opened(tmp_path), opened(tmp_path)
    assert len(one.key) > 40 and one.key != other.key


def test_a_folder_that_somebody_deletes_is_made_again(tmp_path):
    """After a clean-up of /tmp every Edit failed until the app was started again."""
    edit = opened(tmp_path / "edits")
    edit.fill(0.0)
    shutil.rmtree(tmp_path / "edits")
    assert edit.frames() == [] and not edit.has(0.0), "a frame without a file cannot be shown"
    edit.fill(0.0)
    assert [strength for strength, frame in edit.frames() if frame.picture.exists()] == [0.0]
    shutil.rmtree(tmp_path / "edits")
    assert opened(tmp_path / "edits").folder.path.is_dir()


class LateSession:
    """`render` waits until it may answer, as a render that takes long."""

    preview_steps = 0
    steps = 2

    def __init__(self, source: Image.Image) -> None:
        self.source = source
        self.is_called, self.may_answer = threading.Event(), threading.Event()

    def render(self, strength: float, on_step: object = None) -> Image.Image:
        self.is_called.set()
        assert self.may_answer.wait(TIMEOUT)
        return self.source.copy()

    def frames(self, strengths: list[float], on_step: object = None) -> Iterator[tuple[float, Image.Image]]:
        yield from ((strength, self.source.copy()) for strength in strengths)


def test_a_frame_that_was_announced_never_changes(tmp_path):
    """The strip and the slider both made strength 0: the second wrote the file again, in place, while the browser read
    it, and three of seventy edits showed half a picture for good."""
    edit = opened(tmp_path)
    edit.session = LateSession(edit.session.source)
    slider = threading.Thread(target=edit.show, args=(0.0,))
    slider.start()
    edit.session.is_called.wait(TIMEOUT)
    edit.fill(0.0)
    path = dict(edit.frames())[0.0].picture
    announced = path.stat().st_ino, path.stat().st_mtime_ns
    edit.session.may_answer.set()
    slider.join(TIMEOUT)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == announced
    assert [each.name for each in edit.folder.path.iterdir()] == [path.name]


@pytest.mark.parametrize("call", ["fill", "show"])
def test_a_full_disk_in_a_render_is_a_sentence_and_keeps_what_is_there(tmp_path, monkeypatch, call):
    """ "[Errno 28]" stood in the page twice."""
    edit = opened(tmp_path)
    edit.fill(0.0)

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(edit_folder, "write_whole", full)
        with pytest.raises(DiskFull):
            getattr(edit, call)(1.0)
    assert [strength for strength, _ in edit.frames()] == [0.0]
    edit.fill(1.0)
    assert [strength for strength, _ in edit.frames()] == [0.0, 1.0]
