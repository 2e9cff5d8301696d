"""Real file systems for a test, where it may mount them; elsewhere the test is skipped with the reason."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """`folder`, made and mounted as the words of the command `mount` say, until the block ends."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", *words, str(folder)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command `mount` here")
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def immutable(file: Path) -> Iterator[None]:
    """A file that nobody can write to, root included, until the block ends."""
    done = subprocess.run(["chattr", "+i", str(file)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file can be made immutable here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """The block runs without root's rights, which no folder is closed to."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
