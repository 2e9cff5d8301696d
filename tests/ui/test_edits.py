"""How long an edit stays open: as long as it is used, some minutes after its page is gone, and while there is room."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from kontext_slider.ui import tab
from kontext_slider.ui.edits import OpenEdits
from kontext_slider.ui.folder import DiskFull
from kontext_slider.ui.tab import OpenEdit, Recipe
from tests.ui.fake_engine import FakeEngine

SIDE = 256
HOUR = 3600.0
TIMEOUT = 30
RECIPE = Recipe("make it night", 0, 2, 2.5, "photo.png", (0.0, 1.0))


def opened(folder: Path, photograph: str = "") -> OpenEdit:
    recipe = replace(RECIPE, photograph=photograph)
    session = FakeEngine().open(Image.effect_noise((SIDE, SIDE), 90).convert("RGB"), "make it night", steps=2)
    edit = OpenEdit(session, 1, recipe, str(folder))
    edit.fill(0.0)
    return edit


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_an_edit_is_found_by_its_key_and_by_nothing_else(tmp_path):
    """A page that is loaded again asks by the key; whoever guesses a number must not see a person's photograph."""
    edits, edit = OpenEdits(tmp_path), opened(tmp_path)
    edits.add(edit)
    assert edits.find(edit.key) is edit
    assert edits.find("1") is None and edits.find("") is None
    assert len(edit.key) > 40 and opened(tmp_path).key != edit.key
    edit.close()
    assert edits.find(edit.key) is None


def test_an_edit_in_use_stays_open_and_an_unused_one_closes(tmp_path):
    """Gradio counted from the press on Edit: after an hour it closed the edit in the middle of a drag."""
    edits = OpenEdits(tmp_path, unused_seconds=1.0)
    used, unused = opened(tmp_path), opened(tmp_path)
    edits.add(used)
    edits.add(unused)
    begin = time.monotonic()
    while not unused.is_closed:
        used.show(1.0)
        assert time.monotonic() < begin + TIMEOUT
        time.sleep(0.05)
    assert not used.is_closed and used.files()
    while unused.folder.exists():  # it goes after the session, in the other thread
        assert time.monotonic() < begin + TIMEOUT
        time.sleep(0.05)
    used.close()


def test_an_edit_whose_page_is_gone_closes_sooner_and_one_that_comes_back_does_not(tmp_path):
    """Frames of closed pages held memory for an hour; a page that is loaded again must find its edit."""
    edits = OpenEdits(tmp_path, unused_seconds=HOUR, left_seconds=0.2)
    gone, back, there = opened(tmp_path), opened(tmp_path), opened(tmp_path)
    for edit in (gone, back, there):
        edits.add(edit)
    gone.leave()
    back.leave()
    assert edits.find(back.key) is back
    deadline = time.monotonic() + TIMEOUT
    while not gone.is_closed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gone.is_closed and not back.is_closed and not there.is_closed
    edits.close_all()


def test_the_limit_takes_the_oldest_whose_page_is_gone_and_never_one_in_use(tmp_path):
    """Open pages could fill the disk; but frames that somebody looks at must stay."""
    edits = OpenEdits(tmp_path)
    oldest, newest, there = opened(tmp_path), opened(tmp_path), opened(tmp_path)
    for edit in (oldest, newest, there):
        edits.add(edit)
    size = there.files()[0][1].stat().st_size
    oldest.leave()
    newest.leave()
    edits.most_bytes = int(2.5 * size)
    edits.close_unused()
    assert oldest.is_closed and not newest.is_closed and not there.is_closed
    edits.most_bytes = 1
    edits.close_unused()
    assert newest.is_closed and not there.is_closed and there.files()
    edits.close_all()


def test_the_limit_takes_old_uploads_that_no_open_edit_is_made_of(tmp_path):
    """Every photograph that anybody has ever sent stayed for a day."""
    paths = [tmp_path / name / "photo.png" for name in ("old", "used", "fresh")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"x" * 1000)
        age(path, HOUR)
    old, used, fresh = paths
    age(fresh, 1)
    edits = OpenEdits(tmp_path, most_bytes=1)
    edit = opened(tmp_path / "edits", photograph=str(used))
    edits.add(edit)
    edits.close_unused()
    assert not old.exists() and used.exists() and fresh.exists() and not edit.is_closed
    edits.close_all()


def test_a_folder_that_somebody_deletes_is_made_again(tmp_path):
    """After a clean-up of /tmp every Edit failed until the app was started again."""
    edit = opened(tmp_path / "edits")
    shutil.rmtree(tmp_path / "edits")
    assert edit.files() == [] and not edit.has(0.0), "a frame without a file cannot be shown"
    edit.fill(0.0)
    assert [strength for strength, path in edit.files() if path.exists()] == [0.0]
    shutil.rmtree(tmp_path / "edits")
    assert opened(tmp_path / "edits").files()


def test_a_frame_that_was_announced_never_changes(tmp_path):
    """The strip and the slider both made strength 0: the second wrote the file again, in place, while the browser read
    it, and three of seventy edits showed half a picture for good."""
    edit = OpenEdit(LateSession(opened(tmp_path).session.source), 2, RECIPE, str(tmp_path))
    slider = threading.Thread(target=edit.show, args=(0.0,))
    slider.start()
    edit.session.is_asked.wait(TIMEOUT)
    edit.fill(0.0)
    path = dict(edit.files())[0.0]
    announced = path.stat().st_ino, path.stat().st_mtime_ns
    edit.session.may_answer.set()
    slider.join(TIMEOUT)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == announced
    assert [each.name for each in edit.folder.iterdir()] == [path.name]


class LateSession:
    """`show` waits until it may answer, as a render that takes long."""

    preview_steps = 0

    def __init__(self, source: Image.Image) -> None:
        self.source = source
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def show(self, strength: float, on_step: object = None) -> Image.Image:
        self.is_asked.set()
        assert self.may_answer.wait(TIMEOUT)
        return self.source.copy()


@pytest.mark.parametrize("call", ["fill", "show"])
def test_a_full_disk_in_a_render_is_a_sentence_and_keeps_what_is_there(tmp_path, monkeypatch, call):
    """ "[Errno 28]" stood in the page twice."""
    edit = opened(tmp_path)

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tab, "write_whole", full)
        with pytest.raises(DiskFull):
            getattr(edit, call)(1.0)
    assert [strength for strength, _ in edit.files()] == [0.0]
    edit.fill(1.0)
    assert [strength for strength, _ in edit.files()] == [0.0, 1.0]
