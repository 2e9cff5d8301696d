"""A data set on the disk: Parquet files of one or several folders, read a row group at a time.

Nothing is copied: `datasets.load_dataset` would write all of it again, a hundred gigabytes, while other processes wait.
A file is held against its checksum by the process that reads rows of it, before it does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from kontext_slider.errors import CheckpointError, InvalidInput
from kontext_slider.files import file_sha256
from kontext_slider.hub import CHECKSUMS
from kontext_slider.model_folder import check_files, read_json_object

NEEDED = ("frames", "strengths", "instruction")
COLUMNS = (*NEEDED, "source")  # that are read, where they are there
WANTED = "give one that the data stages wrote."


class DataSet:
    """The training rows of some folders, in the order of the folders and of their files' names.

    Raises InvalidInput where a folder has no Parquet files, a file is none, columns are missing or there are no rows,
    and CheckpointError where a file is not there that was packed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._root = {file: folder for folder in folders for file in parquet_files(folder)}
        self.files = list(self._root)
        self._groups: list[tuple[Path, int]] = []
        self._starts: list[int] = []  # number of a group's first row
        self._count = 0
        for file in self.files:
            self._add(file)
        if not self._count:
            raise InvalidInput(f"The data set at {str(folders[0])!r} has no rows: {WANTED}")
        for folder in folders:
            for name in check_files(folder, ()):
                if not (folder / name).is_file():
                    raise CheckpointError(f"{folder / name} is missing. Download or copy the folder again.")
        self._group = lru_cache(maxsize=1)(self._read_group)
        self._checked = set[Path]()

    def _add(self, file: Path) -> None:
        with self._reading(file):
            found = pyarrow.parquet.ParquetFile(file)
        missing = set(NEEDED) - set(found.schema_arrow.names)
        if missing:
            raise InvalidInput(f"{file} has no column {', '.join(sorted(missing))}: {WANTED}")
        for number in range(found.num_row_groups):
            self._groups.append((file, number))
            self._starts.append(self._count)
            self._count += found.metadata.row_group(number).num_rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A row with its pictures opened. Quick for rows in order. OSError for pictures that are none, CheckpointError
        for a file that is not the one that was packed."""
        group = bisect_right(self._starts, number) - 1
        return self._group(group)[number - self._starts[group]]

    def _read_group(self, number: int) -> Any:
        from datasets import Dataset

        file, group = self._groups[number]
        if file not in self._checked:
            self._check(file)
            self._checked.add(file)
        with self._reading(file):
            found = pyarrow.parquet.ParquetFile(file)
            names = [name for name in COLUMNS if name in found.schema_arrow.names]
            return Dataset(found.read_row_group(group, columns=names))

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            self._check(file)
            raise InvalidInput(f"{file} cannot be read ({error}): {WANTED}") from error

    def _check(self, file: Path) -> None:
        check_files(self._root[file], [file.relative_to(self._root[file]).as_posix()])

    def noted_digest(self, file: Path) -> str | None:
        """The SHA-256 of a file as it was noted when it was packed; None where it was not."""
        root = self._root[file]
        if not (root / CHECKSUMS).exists():
            return None
        return read_json_object(root / CHECKSUMS).get(file.relative_to(root).as_posix())

    def digests(self, part: int = 0, num_parts: int = 1) -> list[tuple[int, str]]:
        """Number and SHA-256 of every `num_parts`-th file from number `part` on: as noted, or of its bytes."""
        numbers = range(part, len(self.files), num_parts)
        return [(k, self.noted_digest(self.files[k]) or file_sha256(self.files[k])) for k in numbers]


def parquet_files(data: Path) -> list[Path]:
    """A folder's files in order. Of several splits (`train-*`, `test-*`), the training one."""
    files = sorted(file for file in data.rglob("*.parquet") if file.is_file()) if data.is_dir() else []
    training = [file for file in files if "train" in (file.stem.split("-")[0], file.parent.name)]
    if not files:
        raise InvalidInput(f"There are no Parquet files in {str(data)!r}: give the folder that the data stages wrote.")
    return training or files
