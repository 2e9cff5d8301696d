"""Which edits stay open, and for how long. Gradio's own clock counts from the last Edit, not from the last use.

An edit belongs to no connection: a page that is loaded again finds its edit by its key. It closes when nothing was
asked of it for an hour, ten minutes after its page has gone, or, oldest first, when the folder of the app has grown too
large and its page has gone. The edit of a page that is there is never closed for its size.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from kontext_slider.ui.folder import size_of
from kontext_slider.ui.tab import OpenEdit

UNUSED_SECONDS = 3600.0
LEFT_SECONDS = 600.0  # time to load a page again, or to come back with the back button
MOST_BYTES = 4 * 1024**3
LOOK_SECONDS = 10.0
FRESH_SECONDS = 600.0  # an upload this young may still wait for its Edit
EDITS_PREFIX = "edit"  # of the folders that `Handlers` and `OpenEdit` make


class OpenEdits:
    """All open edits of this process, by key. A thread of its own closes them; it ends when none is open.

    folder: where uploads and frames are, counted together. most_bytes: what it may hold.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        unused_seconds: float = UNUSED_SECONDS,
        left_seconds: float = LEFT_SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._folder = Path(folder)
        self._unused_seconds, self._left_seconds = unused_seconds, left_seconds
        self.most_bytes = most_bytes
        self._look_seconds = min(LOOK_SECONDS, unused_seconds / 4, left_seconds / 4)
        self._edits: dict[str, OpenEdit] = {}
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None

    def add(self, edit: OpenEdit) -> None:
        """Look after an edit that has just been opened."""
        with self._lock:
            self._edits[edit.key] = edit
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, name="open-edits", daemon=True)
                self._watch.start()

    def find(self, key: str) -> OpenEdit | None:
        """The open edit of this key, which counts as a use of it."""
        with self._lock:
            edit = self._edits.get(key)
        if edit is None or edit.is_closed:
            return None
        edit.touch()
        return edit

    def close_unused(self) -> None:
        """Close what is due now."""
        for edit in self._open():
            unused = edit.unused_seconds()
            if unused > self._unused_seconds or (not edit.has_page and unused > self._left_seconds):
                edit.close()
        self._keep_the_limit()
        with self._lock:
            self._edits = {key: edit for key, edit in self._edits.items() if not edit.is_closed}

    def close_all(self) -> None:
        """Close every edit, when the app ends."""
        for edit in self._open():
            edit.close()

    def _look(self) -> None:
        while True:
            time.sleep(self._look_seconds)
            self.close_unused()
            with self._lock:
                if not self._edits:
                    self._watch = None
                    return

    def _open(self) -> list[OpenEdit]:
        with self._lock:
            return [edit for edit in self._edits.values() if not edit.is_closed]

    def _keep_the_limit(self) -> None:
        left = sorted((edit for edit in self._open() if not edit.has_page), key=OpenEdit.unused_seconds)
        while left and size_of(self._folder) > self.most_bytes:
            left.pop().close()
        for upload in self._old_uploads():
            if size_of(self._folder) <= self.most_bytes:
                return
            upload.unlink(missing_ok=True)

    def _old_uploads(self) -> list[Path]:
        """Uploads that no open edit was made of, oldest first. Gradio keeps each in a folder named after its hash."""
        used = {edit.recipe.photograph for edit in self._open()}
        young = time.time() - FRESH_SECONDS
        found = []
        for path in self._folder.glob("*/*"):
            if path.parent.name.startswith(EDITS_PREFIX) or str(path) in used or not path.is_file():
                continue
            changed = path.stat().st_mtime
            if changed < young:
                found.append((changed, path))
        return [path for _, path in sorted(found)]
