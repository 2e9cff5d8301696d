"""Files that survive a full disk, a kill and a power cut: write whole or not at all, append a JSON line, digest. What a
library says of a disk in an error of its own is told as ours (`writing`). Importing this file loads no library."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import DiskError, InvalidInput, KontextSliderError

if TYPE_CHECKING:
    from torch import nn

LOCAL_FACTS = frozenset(  # of a module's configuration: they depend on the way it was made
    ("_name_or_path", "name_or_path", "transformers_version", "_diffusers_version", "dtype", "torch_dtype")
    + ("_use_default_values",)
)
MAX_LINES = 2**32  # bytes of a file of JSON lines
NEW_PART = 5  # seconds in which another process may not yet have locked the file that it has just made
EVERY_FILE_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # full, quota used up, read-only, failing disk
FORBIDDEN = (errno.EACCES, errno.EPERM)


def write_error(what: str, error: OSError) -> InvalidInput:
    """The sentence for `what`, which could not be written. A DiskError where the next file would fail as well."""
    kind, advice = InvalidInput, "choose a folder that exists and can be written to"
    if error.errno in EVERY_FILE_FAILS:
        kind, advice = DiskError, "make room on the disk, or choose a folder on another one"
    return kind(f"{what} ({error.strerror or error}): {advice}.")


def disk_error_in(error: BaseException) -> OSError | None:
    """What the system said of the disk, where `error` tells of that: itself, one that it was raised after, or one whose
    words it quotes, as the errors of safetensors and torch do. None for anything else."""
    told: BaseException | None = error
    while told is not None:
        if isinstance(told, OSError) and told.errno in EVERY_FILE_FAILS + FORBIDDEN:
            return told
        told = told.__cause__ or told.__context__
    quoted = [code for code in EVERY_FILE_FAILS + FORBIDDEN if os.strerror(code) in str(error)]
    return OSError(quoted[0], os.strerror(quoted[0])) if quoted else None


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """A library writes `path`, a file or a folder, in this block: what it says of the disk is raised as InvalidInput,
    DiskError where the next file would fail as well."""
    try:
        yield
    except KontextSliderError:
        raise
    except Exception as error:
        told = error if isinstance(error, OSError) else disk_error_in(error)
        if told is None:
            raise
        raise write_error(f"Could not write {os.fspath(path)}", told) from error


@contextlib.contextmanager
def open_regular(
    path: str | os.PathLike[str], most: int, error: type[InvalidInput] = InvalidInput, name: str | None = None
) -> Iterator[BinaryIO]:
    """A file that somebody named, open for reading. Raises `error`, with a sentence, where there is none or it cannot
    be read, for a folder, a device, a pipe or a socket, and for more than `most` bytes: all before a byte is read.

    name: what sentences call it; the quoted path by default.
    """
    name = name or repr(os.fspath(path))
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise error(f"{name} is a folder. Give the path of one file.")
        if not stat.S_ISREG(kind):
            raise error(f"{name} is no file but a device, a pipe or a socket. Give the path of one file.")
        # O_NONBLOCK: a pipe that has just taken the file's place is not waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as cause:
        raise error(f"There is no file {os.fspath(path)!r}. Check the path.") from cause
    except (OSError, ValueError) as cause:  # ValueError: of the path itself
        if isinstance(cause, InvalidInput):
            raise
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{name} cannot be read ({reason}). Check its permissions.") from cause
    with os.fdopen(descriptor, "rb") as file:
        described = os.fstat(descriptor)
        if described.st_size > most:
            raise error(
                f"{name} has {described.st_size / 1e6:,.0f} MB, and files of up to {most / 1e6:,.0f} MB are read here. "
                "Make it smaller and try again."
            )
        yield file


def read_regular(
    path: str | os.PathLike[str], most: int, error: type[InvalidInput] = InvalidInput, name: str | None = None
) -> bytes:
    """The bytes of a file that somebody named; arguments and errors as of `open_regular`."""
    with open_regular(path, most, error, name) as file:
        try:
            content = file.read(most + 1)  # a file of /proc says that it has 0 bytes
        except OSError as cause:
            raise error(f"{name or repr(os.fspath(path))} cannot be read ({cause.strerror or cause}).") from cause
        if len(content) > most:
            raise error(f"{name or repr(os.fspath(path))} grows while it is read. Try again when it is complete.")
        return content


@contextlib.contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that takes the place of `path` when the block ends without an error.

    Until then it has a hidden name in the same folder (`file.name`), by which a library may write it. After an error
    nothing is left of it, and `path` is as it was. Raises as `writing`.
    """
    path = Path(path)
    remove_parts(path)
    part = path.with_name(f".{_part_name(path)}.{uuid.uuid4().hex}.part")
    try:
        with writing(path), open(part, "x+b") as file:
            _hold(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        with writing(path):
            os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):  # it may never have been made
            part.unlink()
        raise


def remove_parts(path: Path) -> None:
    """Remove what killed writes of the same file have left beside it; what another process is writing stays."""
    with contextlib.suppress(OSError):
        for part in path.parent.glob(f".{_part_name(path)}.*.part"):
            with open(part, "r+b") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > NEW_PART and _hold(file):
                    part.unlink()


def _part_name(path: Path) -> str:
    """The same for every write of a file, and short: names have at most 255 bytes."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]


def _hold(file: BinaryIO) -> bool:
    """Lock a file until it is closed; False where another process holds it, or where locks do not exist."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def write_whole(path: str | os.PathLike[str], data: bytes | memoryview) -> Path:
    """Write `data` to `path` so that nobody ever sees half of it, whatever stops this process."""
    with open_whole(path) as file:
        file.write(data)
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """`write_whole` of a value that people read as well."""
    return write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a complete file or folder to `path` once its bytes are on the disk, so that no power cut leaves half."""
    for file in [partial, *partial.rglob("*")]:
        if file.is_file():
            with open(file, "r+b") as opened:
                os.fsync(opened.fileno())
    os.replace(partial, path)


def append_json_line(path: Path, value: Any) -> None:
    """Add `value` as one line of JSON, in one write, so that two batches do not mix their lines. A last line that is
    cut short is closed first. Raises InvalidInput or DiskError; ValueError for NaN and infinity, which are no JSON."""
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    try:
        with open(path, "ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(start + line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(f"Could not add a line to {path}", error) from error


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines; none where there is no file. A line that was cut short is left out.
    InvalidInput for what is no file, or cannot be read."""
    if not path.exists():
        return []
    values = []
    for line in read_regular(path, MAX_LINES).decode("utf-8", "replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            values.append(json.loads(line, parse_constant=_refuse))
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def cut_json_lines(path: Path, step: int) -> None:
    """Drop the lines of a log that are cut short or about later steps than `step`, which a resumed run writes again."""
    if path.exists():
        lines = [value for value in read_json_lines(path) if isinstance(value, dict)]
        steps = [value for value in lines if isinstance(value.get("step"), int)]
        kept = [json.dumps(value) + "\n" for value in steps if value["step"] <= step]
        write_whole(path, "".join(kept).encode())


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, and test that it takes files. Raises InvalidInput or DiskError."""
    problem = f"The folder {folder} cannot be made"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = f"No file can be written to the folder {folder}"
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_error(problem, error) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of an open file's bytes, read block by block, in hexadecimal. Raises OSError."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def json_sha256(value: Any) -> str:
    """The SHA-256 of a JSON value, in hexadecimal; the order of an object's names does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def folder_sha256(folder: Path) -> str:
    """Digest of the safetensors anywhere in a folder, by their names and bytes; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()[:16]


def weights_sha256(module: nn.Module) -> str:
    """The SHA-256 of a module's tensors (name, shape, dtype, values) and its configuration without LOCAL_FACTS."""
    import torch

    config = module.config
    facts = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    facts = {name: value for name, value in facts.items() if name not in LOCAL_FACTS}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    """The lower-case suffix of `path` without its dot; InvalidInput unless it is one of `known`."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        choices = ", ".join(f".{name}" for name in known)
        raise InvalidInput(f"{str(path)!r} names no format that can be written: end it in one of {choices}.")
    return suffix


def cut_to_bytes(text: str, limit: int) -> str:
    """The beginning of `text` of at most `limit` bytes in UTF-8, without half a character and what is no UTF-8."""
    return text.encode("utf-8", "surrogateescape")[:limit].decode("utf-8", "ignore")


def shipped(name: str) -> Path:
    """The path of a file or folder that comes with the package, such as "weights/pocket": a wheel has it inside the
    package (`setup.py` puts it there), a clone of the repository beside it."""
    package = Path(__file__).resolve().parent
    installed = package / name
    return installed if installed.exists() else package.parent / name
