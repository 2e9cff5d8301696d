"""The same edit of many photographs, into one ZIP at full size. No widget is named here.

What goes wrong with one photograph becomes a sentence, and the rest goes on. Frames are not urgent: between two denoise
steps whoever moves a slider goes first.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import DiskError, InvalidInput, KontextSliderError, SessionClosed
from ..files import open_whole
from ..metadata import MANIFEST_IN_ZIP, read_metadata
from . import messages
from .canvas_data import Busy
from .folder import DiskFull, needs_room
from .open_edit import OnStep
from .saving import file_stem, write_picture

MAX_PHOTOGRAPHS = 100  # of a batch
MAX_BYTES = 1024**3  # of its photographs together
MAX_ZIP_BYTES = 2 * 1024**3  # of its results together


@dataclass(frozen=True)
class BatchRecipe:
    """What is done to every photograph. settings: of `SliderEngine.open`. options: of `save_picture`."""

    settings: Mapping[str, Any]
    strength: float
    suffix: str
    options: Mapping[str, Any]

    @property
    def zip_name(self) -> str:
        return f"{file_stem(self.settings['instruction'])}-{self.strength:.2f}.zip"


@dataclass
class Batch:
    """One batch under way, or its result.

    origin: the names of model, slider and speed. cache: the folder in which it makes one of its own.
    states: "waits", "edits", "done" or "failed" of each photograph; sentences: what is to be said of it.
    result: the ZIP, once there is one. remark: a sentence about the whole.
    """

    engine: Any
    paths: Sequence[str]
    recipe: BatchRecipe
    origin: Mapping[str, Any]
    cache: str
    states: list[str] = field(init=False)
    sentences: list[str] = field(init=False)
    result: Path | None = None
    remark: str = ""
    _session: Any = None
    _is_cancelled: bool = False

    def __post_init__(self) -> None:
        self.states, self.sentences = ["waits"] * len(self.paths), [""] * len(self.paths)

    @property
    def num_done(self) -> int:
        return self.states.count("done")

    def cancel(self) -> None:
        """End the batch at the next denoise step; what is finished becomes the ZIP."""
        self._is_cancelled = True
        if (session := self._session) is not None:
            session.close()

    def run(self) -> Iterator[Busy]:
        """Edit one after another and write the ZIP. Yields what is being done; `states` has changed then.

        Raises DiskFull and DiskError where the disk takes no more."""
        with needs_room():
            folder = Path(tempfile.mkdtemp(prefix="result-", dir=self.cache))
            path = folder / self.recipe.zip_name
            with open_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                listed: list[dict[str, Any]] = []
                for number in range(len(self.paths)):
                    self._keep_uploads(number)
                    yield from self._add(number, folder, archive, listed)
                    if self._is_cancelled or self._is_full(file.tell(), number):
                        break
                archive.writestr(MANIFEST_IN_ZIP, json.dumps(self._manifest(listed), indent=2))
        if self._is_cancelled:
            self.remark = f"Cancelled: {self.num_done} of {len(self.paths)} were finished."
        if self.num_done:
            self.result = path
        else:
            path.unlink()

    def _add(self, number: int, folder: Path, archive: zipfile.ZipFile, listed: list[dict[str, Any]]) -> Iterator[Busy]:
        """Edit one photograph and add its picture to the archive, or say why not."""
        self.states[number] = "edits"
        text = f"Photograph {number + 1} of {len(self.paths)}"
        yield Busy(text=text, fraction=number / len(self.paths))
        results: list[Path] = []
        try:
            for busy in messages.render(partial(self._write, number, folder, results), text, end=self.cancel):
                yield Busy(text=busy.text, fraction=(number + (busy.fraction or 0)) / len(self.paths))
        except (DiskError, DiskFull):
            raise
        except SessionClosed:
            self.states[number] = "waits"
            return
        except KontextSliderError as error:
            self.states[number], self.sentences[number] = "failed", str(error)
            return
        picture = results[0]
        name = free_name(picture.name, archive.NameToInfo)
        facts = read_metadata(picture)
        archive.write(picture, name)
        picture.unlink()
        listed.append({"file": name} | {key: facts[key] for key in ("source", "source_sha256", "size") if key in facts})
        self.states[number] = "done"

    def _write(self, number: int, folder: Path, results: list[Path], on_step: OnStep) -> None:
        """Render and write one picture, in a thread."""
        recipe, path = self.recipe, messages.uploaded(self.paths[number])
        with messages.named(path), self.engine.open(path, **recipe.settings) as session:
            self._session = session
            if self._is_cancelled:
                raise SessionClosed("The batch was cancelled.")
            try:
                for _ in session.frames([recipe.strength], on_step):
                    pass
                written, left_out, warning = write_picture(
                    session, folder, recipe.strength, recipe.suffix, self.origin, **recipe.options
                )
            finally:
                self._session = None
        results.append(written)
        self.sentences[number] = " ".join(filter(None, [left_out, warning]))

    def _keep_uploads(self, number: int) -> None:
        """Photographs whose turn is still to come count as fresh, so that they are not cleared away (`edits.py`)."""
        for path in self.paths[number:]:
            if os.path.exists(path):
                os.utime(path)

    def _is_full(self, num_bytes: int, number: int) -> bool:
        left = len(self.paths) - number - 1
        if num_bytes < MAX_ZIP_BYTES or left == 0:
            return False
        self.remark = f"The ZIP has {num_bytes / 1e9:.1f} GB, the most. {left} photographs are left for another batch."
        return True

    def _manifest(self, listed: list[dict[str, Any]]) -> dict[str, Any]:
        """What the ZIP tells: the recipe, the pictures, and what could not be edited."""
        known = {name: value for name, value in self.origin.items() if value is not None}
        failed = [{"source": Path(path).name, "reason": sentence} for path, sentence in self._failed()]
        settings = dict(self.recipe.settings)
        return known | settings | {"strengths": [self.recipe.strength], "pictures": listed, "failed": failed}

    def _failed(self) -> Iterator[tuple[str, str]]:
        rows = zip(self.paths, self.states, self.sentences, strict=True)
        return ((path, sentence) for path, state, sentence in rows if state == "failed")


def check_photographs(paths: Any) -> list[str]:
    """The uploads of a batch, each once. Raises InvalidInput."""
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths) or not paths:
        raise InvalidInput("Choose the photographs of the batch first.")
    found = [messages.uploaded(path) for path in dict.fromkeys(paths)]
    if len(found) > MAX_PHOTOGRAPHS:
        raise InvalidInput(f"A batch has at most {MAX_PHOTOGRAPHS} photographs; these are {len(found)}.")
    total = sum(os.path.getsize(path) for path in found)
    if total > MAX_BYTES:
        raise InvalidInput(
            f"The photographs of a batch have at most {MAX_BYTES / 1e9:.1f} GB; these {total / 1e9:.1f}."
        )
    return found


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number where it is taken: "cat.jpg", "cat (2).jpg"."""
    path, number, free = Path(name), 1, name
    while free in taken:
        number += 1
        free = f"{path.stem} ({number}){path.suffix}"
    return free
