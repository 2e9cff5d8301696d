"""How long an edit stays open: as long as it is used, some minutes after its page is gone, and while there is room."""

from __future__ import annotations

import os
import platform
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.ui.edits import MOST_JOBS, MOST_JOBS_OF_ONE, OpenEdits, return_free_memory, visitor_of
from kontext_slider.ui.open_edit import Below, LayerInputs, OpenEdit
from tests.ui.fake_engine import FakeEngine

SIDE = 256
HOUR = 3600.0
TIMEOUT = 30


def opened(edits: OpenEdits, folder: Path, page: str, photograph: str = "") -> OpenEdit:
    session = FakeEngine().open(Image.effect_noise((SIDE, SIDE), 90).convert("RGB"), "make it night", steps=2)
    edit = edits.open(page, session, [0.0, 1.0], photograph, str(folder))
    edit.fill(0.0)
    return edit


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def wait_for(condition) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_edit_is_found_by_its_key_and_by_nothing_else(tmp_path):
    """A page that is loaded again finds its edit by the key; other pages must not see a visitor's photograph."""
    edits = OpenEdits(tmp_path)
    edit = opened(edits, tmp_path, "page")
    assert edits.find(edit.key) is edit
    assert edits.find("1") is None and edits.find("") is None
    assert edits.of("page") is edit and edits.of("other") is None
    edit.close()
    assert edits.find(edit.key) is None and edits.of("page") is None


def test_a_page_has_one_edit_and_serials_grow(tmp_path):
    """The page ignores smaller serials, also after a restart of the server: a count that began anew would leave it
    showing the old edit for ever."""
    edits = OpenEdits(tmp_path)
    first = opened(edits, tmp_path, "page")
    second = opened(edits, tmp_path, "page")
    assert first.is_closed and not second.is_closed
    third = opened(OpenEdits(tmp_path), tmp_path, "page")
    assert first.serial < second.serial <= third.serial
    third.close()
    edits.close_all()


def test_an_edit_in_use_stays_open_and_an_unused_one_closes(tmp_path):
    """Gradio counted from the press on Edit: after an hour it closed the edit in the middle of a drag."""
    edits = OpenEdits(tmp_path, unused_seconds=1.5)
    used, unused = opened(edits, tmp_path, "used"), opened(edits, tmp_path, "unused")

    def closed_while_the_other_is_used() -> bool:
        used.show(1.0)
        return unused.is_closed

    wait_for(closed_while_the_other_is_used)
    assert not used.is_closed and used.frames()
    wait_for(lambda: not unused.folder.path.exists())  # it goes after the session, in the other thread
    used.close()


def test_an_edit_whose_page_is_gone_closes_sooner_and_one_that_comes_back_does_not(tmp_path):
    """Frames of closed pages held memory for an hour; a page that is loaded again must find its edit."""
    edits = OpenEdits(tmp_path, unused_seconds=HOUR, left_seconds=0.5)
    gone, back, again, there = (opened(edits, tmp_path, page) for page in ("gone", "back", "again", "there"))
    for page in ("gone", "back", "again"):
        edits.leave(page)
    edits.show("a new page", back)
    assert edits.of("again") is again, "the connection of this page was gone for a while"
    wait_for(lambda: gone.is_closed)
    assert not back.is_closed and not again.is_closed and not there.is_closed
    edits.close_all()


def test_the_limit_takes_the_oldest_whose_page_is_gone_and_never_one_in_use(tmp_path):
    """Open pages could fill the disk; but frames that somebody looks at must stay."""
    edits = OpenEdits(tmp_path)
    oldest, newest, there = (opened(edits, tmp_path, page) for page in ("oldest", "newest", "there"))
    size = there.frames()[0][1].picture.stat().st_size
    edits.leave("oldest")
    edits.leave("newest")
    edits.most_bytes = int(2.5 * size)
    edits.close_unused()
    assert oldest.is_closed and not newest.is_closed and not there.is_closed
    edits.most_bytes = 1
    edits.close_unused()
    assert newest.is_closed and not there.is_closed and there.frames()
    edits.close_all()


def test_memory_is_bounded_and_takes_what_nobody_looks_at_first(tmp_path):
    """Edits of closed pages were not counted: eight people took the app from 2.7 to 3.9 GB in two minutes."""
    edits = OpenEdits(tmp_path)
    names = ("gone", "idle", "at work", "newest")
    gone, idle, busy, newest = (opened(edits, tmp_path, name) for name in names)
    size = newest.num_bytes
    edits.leave("gone")
    gone.last_use = time.monotonic()  # the newest of all
    edits.most_memory = 3 * size
    with busy.at_work():
        edits.close_unused()
        assert gone.is_closed and not idle.is_closed
        edits.most_memory = 1
        edits.close_unused()
    assert idle.is_closed and newest.is_closed and not busy.is_closed, "what is at work is never closed"
    opened(edits, tmp_path, "another")
    assert busy.is_closed and not edits.of("another").is_closed, "there is room for the edit that is just opened"
    edits.close_all()


def test_memory_counts_the_edits_below(tmp_path):
    """Each edit of a list holds a photograph of its own, and only the last one stands among the open edits."""
    edits = OpenEdits(tmp_path)
    lower, top = opened(edits, tmp_path, "page"), opened(edits, tmp_path, "other")
    before = top.num_bytes
    top.below = [Below(lower, 0, LayerInputs(instruction="make it night"))]
    assert top.num_bytes == before + lower.num_bytes > before
    edits.close_all()


def test_a_page_that_is_loaded_again_after_a_long_rest_finds_its_edit(tmp_path):
    """The minutes after a page has gone were counted from the last use: a page at rest lost its edit by a reload."""
    edits = OpenEdits(tmp_path, unused_seconds=HOUR, left_seconds=60)
    edit = opened(edits, tmp_path, "page")
    edit.last_use -= 600
    edits.close_unused()
    edits.leave("page")
    edits.close_unused()
    assert edits.find(edit.key) is edit
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
    edit = opened(edits, tmp_path / "edits", "page", photograph=str(used))
    edits.close_unused()
    assert not old.exists() and used.exists() and fresh.exists() and not edit.is_closed
    edits.close_all()


def test_long_jobs_are_bounded_for_one_address_and_for_all(tmp_path):
    """Sixteen long edits of one script kept everybody else waiting, without a word."""
    edits = OpenEdits(tmp_path)
    with ExitStack() as jobs:
        counts = [jobs.enter_context(edits.job("203.0.113.9")) for _ in range(MOST_JOBS_OF_ONE)]
        assert counts[0]() == MOST_JOBS_OF_ONE - 1
        with pytest.raises(InvalidInput, match="of yours"), edits.job("203.0.113.9"):
            pass
        for _ in range(MOST_JOBS - MOST_JOBS_OF_ONE):
            jobs.enter_context(edits.job(""))  # this computer: its own people share an address
        with pytest.raises(InvalidInput, match="in a minute"), edits.job("198.51.100.1"):
            pass
    with edits.job("203.0.113.9") as num_others:
        assert num_others() == 0


def test_a_visitor_is_told_by_the_address():
    """Everybody behind a proxy on this computer counted as one, and shut each other out."""

    def request(host: str, **headers: str) -> SimpleNamespace:
        return SimpleNamespace(client=SimpleNamespace(host=host), headers=headers)

    assert visitor_of(request("203.0.113.9")) == "203.0.113.9"
    assert visitor_of(request("127.0.0.1")) == visitor_of(SimpleNamespace(session_hash="page")) == ""
    assert visitor_of(request("127.0.0.1", **{"x-forwarded-for": "203.0.113.9, 10.0.0.1"})) == "203.0.113.9"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of GNU's C library")
def test_what_is_freed_goes_back_to_the_system():
    """The app grew by .1 GB in forty minutes, none of it in use, and kept .7 GB more than it needed."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    blocks = [bytearray(100_000) for _ in range(1000)]
    last = blocks[-1]  # what is above the others keeps them from going back by themselves
    full = resident()
    del blocks
    return_free_memory()
    assert resident() < full - 50 and len(last) == 100_000
