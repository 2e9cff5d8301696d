"""The app in a process of its own, which is killed, emptied, or runs out of disk, while a visitor looks at the page."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ui.page import (
    FILLED,
    INSTRUCTION,
    READY,
    STAGE,
    UPLOAD,
    browser_test,
    open_edit,
    rest_at,
    shown,
    text_of,
    wait_for_text,
)
from tests.ui.serve import Server, free_port
from tests.ui.test_keep import SENTENCE, check_it_is_back

DISK_FULL = "The disk of the server is full"
PICTURE = ("photograph.png", b"a visitor's photograph")

pytestmark = [*browser_test, pytest.mark.slow]


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_a_server_that_is_killed_and_started_again(browser, photograph, tmp_path):
    """The new server knows neither the edit nor the photograph: the page stayed dead until it was filled in again. And
    what the killed one left on disk stayed there. After a cron job had cleaned /tmp, every upload failed."""
    port, temporary = free_port(), tmp_path / "temporary"
    server = Server(temporary, port)
    open_edit(browser, server.address, photograph)
    full = shown(browser, tmp_path)
    strength, frames = rest_at(browser, 0.47), browser.run(f"{STAGE}.frames")
    server.stop(signal.SIGKILL)
    browser.run("dispatchEvent(new Event('online'))")  # the page looks now, and not in some seconds
    browser.wait(f"!document.querySelector('{SENTENCE}').hidden")
    wait_for_text(browser, SENTENCE, "does not answer")
    assert browser.run(f"{STAGE}.frames") == frames
    left = folders(temporary)
    server = Server(temporary, port)
    try:
        wait_for_text(browser, SENTENCE, "rendered again")
        check_it_is_back(browser, strength, full, tmp_path)
        assert len(folders(temporary)) == 1 and folders(temporary) != left
        shutil.rmtree(temporary)
        answer = httpx.post(f"{server.address}/gradio_api/upload", files={"files": PICTURE})
        assert answer.status_code == 200 and os.path.exists(answer.json()[0])
    finally:
        status, printed = server.stop()
    assert status == 128 + signal.SIGTERM and folders(temporary) == []
    assert printed.splitlines() == [f"Kontext Slider is at {server.address}/"], "a clean start says one thing"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own, of sixteen megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"this machine mounts no small disk: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path, but: int) -> Path:
    """Fill the disk but for so many bytes."""
    filler = folder / "filler"
    filler.write_bytes(b"x" * max(shutil.disk_usage(folder).free - but, 0))
    return filler


def test_a_full_disk_is_one_sentence_and_costs_nothing(browser, photograph, small_disk, tmp_path):
    """ "[Errno 28]" stood in the page twice, and a refused upload in no place at all."""
    server = Server(small_disk, free_port())
    try:
        browser.open(server.address, f"{READY} && {STAGE}.frames == 11")
        browser.upload(UPLOAD, photograph)
        wait_for_text(browser, "#photograph", "320 x 240")
        browser.type(INSTRUCTION, "make it night")
        filler = fill_up(small_disk, but=300_000)
        browser.click("#edit")
        wait_for_text(browser, "body", DISK_FULL)
        browser.wait(f"!('busy' in {STAGE})")
        text = text_of(browser, ".gradio-container")
        assert text.count(DISK_FULL) == 1 and "Errno" not in text
        assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
        filler.unlink()
        browser.click("#edit")
        browser.wait(f"{STAGE}.edit > 1 && {FILLED}")
        frames = browser.run(f"{STAGE}.frames")
        fill_up(small_disk, but=0)
        other = tmp_path / "other.png"
        other.write_bytes(photograph.read_bytes() + b"other")
        browser.upload(UPLOAD, other)
        wait_for_text(browser, "#notice", DISK_FULL)
        assert browser.run(f"{STAGE}.frames") == frames
    finally:
        server.stop()
