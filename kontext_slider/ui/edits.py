"""Which edits are open, which page shows which, and when they close.

An edit belongs to no connection: a page that is loaded again finds its edit by its key. It closes when nothing has used
it for an hour, or two minutes after its page has gone. Before that, those whose page has gone close, unused longest
first, when the folder of the app or the memory that open edits take has grown too large; where that is not enough for
the memory, those of pages that are there, unless something is made of them at that moment. A page whose edit is closed
opens it again by itself, and finds most frames in the engine's cache.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from .open_edit import OpenEdit

UNUSED_SECONDS = 3600.0
LEFT_SECONDS = 120.0  # time to load a page again, or to come back with the back button
MOST_BYTES = 4 * 1024**3  # of files
MOST_MEMORY = 2 * 1024**3  # bytes that open edits hold, apart from the engine's caches: their photographs
MOST_JOBS = 64  # edits and exports that are rendered at a time, by turns of one frame
MOST_JOBS_OF_ONE = 8  # of one address: nobody drags so many sliders
LOOK_SECONDS = 10.0
FRESH_SECONDS = 600.0  # an upload this young may still wait for its Edit
EDITS_PREFIX = "edit"  # of the folders that `Handlers` and `OpenEdit` make


def visitor_of(request: Any) -> str:
    """A name for who sends a request, as far as its address tells; "" on this computer, and behind a proxy on it."""
    headers, client = getattr(request, "headers", None) or {}, getattr(request, "client", None)
    address = str(headers.get("x-forwarded-for") or getattr(client, "host", "")).split(",")[0].strip()
    return "" if address in ("127.0.0.1", "::1") else address


class OpenEdits:
    """All open edits of this process. A thread of its own closes them; it ends when none is open.

    folder: where uploads and frames are, counted together. most_bytes: what it may hold. most_memory: bytes that the
    open edits may hold together.
    A page is gradio's name of a connection (`request.session_hash`). It shows at most one edit.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        unused_seconds: float = UNUSED_SECONDS,
        left_seconds: float = LEFT_SECONDS,
        most_bytes: int = MOST_BYTES,
        most_memory: int = MOST_MEMORY,
    ) -> None:
        self.most_bytes, self.most_memory = most_bytes, most_memory
        self._folder = Path(folder)
        self._unused_seconds, self._left_seconds = unused_seconds, left_seconds
        self._look_seconds = min(LOOK_SECONDS, unused_seconds / 4, left_seconds / 4)
        self._edits: list[OpenEdit] = []
        self._pages: dict[str, OpenEdit] = {}
        self._left: dict[str, float] = {}  # pages that are gone, or whose connection is, and since when
        self._serial = 0
        self._lock = threading.Lock()
        self._jobs: list[str] = []  # a visitor for each
        self._watch: threading.Thread | None = None

    def open(
        self,
        page: str,
        session: Any,
        strengths: Sequence[float],
        photograph: str,
        cache: str,
        serial: int | None = None,
    ) -> OpenEdit:
        """The edit of a session that has just been opened; the page's edit before it closes.

        serial: where the page shows the edit already, its serial there. The others are as in `OpenEdit`.
        """
        edit = OpenEdit(session, serial or self.next_serial(), strengths, photograph, cache)
        self.show(page, edit)
        return edit

    def next_serial(self) -> int:
        """Of an edit that a page has not shown so far."""
        with self._lock:
            self._serial = max(self._serial + 1, int(time.time() * 1000))  # grows past a restart of the server
            return self._serial

    def show(self, page: str, edit: OpenEdit) -> None:
        """Let a page show an edit that is open; the one that it showed before closes, but for what this one stands on.
        An edit that stands below another is looked after by that one."""
        with self._lock:
            before = self._pages.get(page)
            self._pages[page] = edit
            below = [layer.edit for layer in edit.below]
            self._edits = [each for each in self._edits if each not in (edit, *below)] + [edit]
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="open-edits", daemon=True)
                self._watch.start()
        self.of(page)
        if before is not None and before is not edit:
            before.close(but=(edit, *below))
        self._keep_the_memory(but=edit)

    def of(self, page: str) -> OpenEdit | None:
        """The open edit that a page shows, which counts as a use of it."""
        with self._lock:
            self._left.pop(page, None)
            edit = self._pages.get(page)
        if edit is None or edit.is_closed:
            return None
        edit.last_use = time.monotonic()
        return edit

    def find(self, key: str) -> OpenEdit | None:
        """The open edit of this key."""
        return next((edit for edit in self._open() if edit.key == key), None)

    def leave(self, page: str) -> None:
        """Note that a page is gone, or its connection. Its edit stays for some minutes."""
        with self._lock:
            if page in self._pages:
                self._left[page] = time.monotonic()

    @contextmanager
    def job(self, visitor: str) -> Iterator[Callable[[], int]]:
        """Count a long job of a visitor for as long as it runs. Yields a function: how many others run at the moment.

        Raises InvalidInput where too many run."""
        with self._lock:
            if len(self._jobs) >= MOST_JOBS:
                raise InvalidInput(f"{MOST_JOBS} edits are being rendered, the most at a time. Try again in a minute.")
            if visitor and self._jobs.count(visitor) >= MOST_JOBS_OF_ONE:
                sentence = f"{MOST_JOBS_OF_ONE} edits of yours are being rendered, the most at a time."
                raise InvalidInput(f"{sentence} Wait for one to end, or close its page.")
            self._jobs.append(visitor)
        try:
            yield lambda: len(self._jobs) - 1
        finally:
            with self._lock:
                self._jobs.remove(visitor)

    def close_unused(self) -> None:
        """Close what is due now."""
        now = time.monotonic()
        for edit in self._open():
            if now - edit.last_use > self._unused_seconds or now - self._left_at(edit, now) > self._left_seconds:
                edit.close()
        self._keep_the_memory()
        self._keep_the_limit()
        with self._lock:
            self._edits = [edit for edit in self._edits if not edit.is_closed]
            self._pages = {page: edit for page, edit in self._pages.items() if not edit.is_closed}
            self._left = {page: since for page, since in self._left.items() if page in self._pages}

    def close_all(self) -> None:
        """Close every edit, when the app ends."""
        for edit in self._open():
            edit.close()

    def _look(self) -> None:
        returned = time.monotonic()
        while True:
            time.sleep(self._look_seconds)
            self.close_unused()
            if time.monotonic() - returned >= LOOK_SECONDS:
                return_free_memory()
                returned = time.monotonic()
            with self._lock:
                if not self._edits:
                    self._watch = None
                    return

    def _open(self) -> list[OpenEdit]:
        with self._lock:
            return [edit for edit in self._edits if not edit.is_closed]

    def _left_at(self, edit: OpenEdit, now: float) -> float:
        """When nobody looked at an edit any more; `now` where its page is there."""
        with self._lock:
            times = [self._left.get(page, now) for page, shown in self._pages.items() if shown is edit]
        return max([edit.last_use, *times])

    def _left_first(self) -> list[OpenEdit]:
        """Open edits whose page is gone, then the others, unused longest first."""
        now = time.monotonic()
        return sorted(self._open(), key=lambda edit: (self._left_at(edit, now) >= now, edit.last_use))

    def _keep_the_memory(self, but: OpenEdit | None = None) -> None:
        for edit in self._left_first():
            if sum(each.num_bytes for each in self._open()) <= self.most_memory:
                return
            if edit is not but and not edit.is_at_work:
                edit.close()

    def _keep_the_limit(self) -> None:
        now = time.monotonic()
        for edit in self._left_first():
            if self._left_at(edit, now) < now and size_of(self._folder) > self.most_bytes:
                edit.close()
        for upload in self._old_uploads():
            if size_of(self._folder) <= self.most_bytes:
                break  # not one walk through the folder for every file
            upload.unlink(missing_ok=True)

    def _old_uploads(self) -> list[Path]:
        """Uploads that no open edit was made of, and files that endpoints wrote, oldest first. Gradio keeps each upload
        in a folder named after its hash."""
        used = {edit.photograph for edit in self._open()}
        found = []
        with suppress(OSError):  # an edit that closes meanwhile takes its files with it: the rest comes next time
            for path in self._folder.glob("*/*"):
                if path.is_file() and not path.parent.name.startswith(EDITS_PREFIX) and str(path) not in used:
                    found.append((path.stat().st_mtime, path))
        return [path for changed, path in sorted(found) if changed < time.time() - FRESH_SECONDS]


def return_free_memory() -> None:
    """Give back to the system what is freed: GNU's C library keeps it for each thread, 0.7 GB after minutes of eight
    people. Does nothing where the C library cannot."""
    with suppress(OSError, AttributeError, TypeError):  # no such library, function, or way to open it
        ctypes.CDLL(None).malloc_trim(0)


def size_of(folder: str | os.PathLike[str]) -> int:
    """Bytes of all files in `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total
