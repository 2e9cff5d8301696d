"""A disk that fills up, in a real browser: one sentence, nothing lost, and on it goes when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ui.serve import Server, free_port
from tests.ui.test_browser import CHROMIUM, INSTRUCTION, STAGE, browser, photograph  # noqa: F401  two fixtures

SENTENCE = "The disk of the server is full"
TEXT = "document.body.innerText"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine: install one to run this test"),
]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own, of six million bytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip(f"this machine mounts no small disk: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path, but: int) -> Path:
    """Fill the disk but for so many bytes."""
    filler = folder / "filler"
    free = int(subprocess.run(["df", "--output=avail", "-B1", folder], capture_output=True).stdout.split()[-1])
    filler.write_bytes(b"x" * max(free - but, 0))
    return filler


def test_a_full_disk_is_one_sentence_and_costs_nothing(browser, photograph, small_disk, tmp_path):  # noqa: F811
    """ "[Errno 28]" stood in the page twice, and a refused upload in no place at all."""
    server = Server(small_disk, free_port())
    try:
        browser.open(server.address, f"{STAGE}.frames == 11")
        browser.upload("#photograph input[type=file]", photograph)
        browser.wait("document.querySelector('#photograph').textContent.includes('320 x 240')")
        browser.type(INSTRUCTION, "make it night")
        filler = fill_up(small_disk, but=300_000)
        browser.click("#edit")
        browser.wait(f"{TEXT}.includes('{SENTENCE}') && !('busy' in {STAGE})")
        text = browser.run(TEXT)
        assert text.count(SENTENCE) == 1 and "Errno" not in text
        assert browser.run(f"document.querySelector('{INSTRUCTION}').value") == "make it night"
        filler.unlink()
        browser.click("#edit")
        browser.wait(f"{STAGE}.edit > 1 && {STAGE}.frames == 11 && !('busy' in {STAGE})")
        fill_up(small_disk, but=0)
        other = tmp_path / "other.png"
        other.write_bytes(photograph.read_bytes() + b"other")
        browser.upload("#photograph input[type=file]", other)
        browser.wait(f"{TEXT}.includes('{SENTENCE}')")
        assert browser.run(f"{STAGE}.frames") == "11"
    finally:
        server.stop()
