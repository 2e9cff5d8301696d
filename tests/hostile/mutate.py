"""Damage to bytes, to formats with right checksums, to JSON and to folders, drawn by a seeded generator."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

ODD_NUMBERS = (0, -1, 1, 2, 7, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**12, 10**400, 0.5, -0.0, 1e308)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *(
        None,
        True,
        False,
        "",
        "\0",
        "\ud800",
        "x" * 5000,
        "../../x",
        "nan",
        [],
        {},
        [[]],
        {"": None},
        ["a"],
        float("nan"),
    ),
)

KEYS = (  # that a configuration may have and the tiny models' have not, and two that none has
    *("x", "", "extra_special_tokens", "dtype", "extra_ids", "num_labels", "pad_token", "eos_token_id", "auto_map"),
    *("base_shift", "shift_terminal", "highest_strength", "quantization_config", "architectures", "model_type"),
)
PNG = b"\x89PNG\r\n\x1a\n"
NO_OBJECTS = (b"[" * 100_000, b"1", b"null", b'"x"', b"", b"\xff\xfe", b'{"a":' * 50_000, b"9" * 10_000, b"NaN")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`plain_damage`, sometimes behind a checksum that fits."""
    if rng.random() < 0.15:
        with contextlib.suppress(ValueError, struct.error, zipfile.BadZipFile, RecursionError):
            return inside(data, rng)
    return plain_damage(data, rng)


def plain_damage(data: bytes, rng: random.Random) -> bytes:
    """A few kinds of damage at random places: bits, bytes, numbers, cuts, gaps, repeats, swaps."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            break
        place = rng.randrange(len(changed))
        length = rng.choice((1, 2, 4, 16, 256, len(changed) // 4 + 1))
        kind = rng.randrange(9)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            number = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x4000)))
            changed[place : place + 4] = number
        elif kind == 3:
            del changed[place:]
        elif kind == 4:
            del changed[place : place + length]
        elif kind == 5:
            changed[place:place] = changed[place : place + length]
        elif kind == 6:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 7:
            changed[place : place + length] = bytes(length)
        else:  # the head, where formats keep their sizes
            changed[rng.randrange(min(64, len(changed)))] = rng.randrange(256)
    return bytes(changed)


def inside(data: bytes, rng: random.Random) -> bytes:
    """Damage behind a checksum or a header that fits it: to a chunk of a PNG, a member of a ZIP, the header of a
    safetensors file. ValueError for other formats."""
    if data.startswith(PNG):
        chunks, place = [], len(PNG)
        while place < len(data):
            (length,) = struct.unpack_from(">I", data, place)
            chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
            place += length + 12
        number = rng.randrange(len(chunks))
        chunks[number] = chunks[number][0], plain_damage(chunks[number][1], rng)
        if rng.random() < 0.3:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
        parts = [(name + body, len(body)) for name, body in chunks]
        return PNG + b"".join(struct.pack(">I", n) + part + struct.pack(">I", zlib.crc32(part)) for part, n in parts)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        number, stream = rng.randrange(len(members)), io.BytesIO()
        name, body = members[number]
        members[number] = name, any_damage(body, rng)
        if rng.random() < 0.3:
            members.pop(rng.randrange(len(members)))
        with zipfile.ZipFile(stream, "w") as archive:
            for name, body in members:
                archive.writestr(name, body)
        return stream.getvalue()
    if data[8:9] == b"{":
        (length,) = struct.unpack_from("<Q", data)
        header = damaged_json(json.loads(data[8 : 8 + length]), rng)
        return struct.pack("<Q", len(header)) + header + data[8 + length :]
    raise ValueError("no checksum and no header is known")


def any_damage(data: bytes, rng: random.Random) -> bytes:
    """To JSON as such, to all else as bytes."""
    try:
        return damaged_json(json.loads(data), rng)
    except (ValueError, RecursionError):
        return plain_damage(data, rng)


def damage_folder(folder: Path, rng: random.Random, spared: tuple[str, ...] = (".md",)) -> None:
    """One or two files changed, gone, or with something else in their place: another file, a folder, a link, a device.
    spared: suffixes of files that nobody reads."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix not in spared)
    for file in rng.sample(files, min(len(files), rng.choice((1, 1, 2)))):
        kind = rng.randrange(20)
        if kind > 7:
            file.write_bytes(any_damage(file.read_bytes(), rng))
            continue
        data = rng.choice([each for each in files if each.is_file()]).read_bytes() if kind == 0 else b""
        file.unlink()
        if kind in (0, 1):  # swapped, or empty
            file.write_bytes(data)
        elif kind == 2:
            file.mkdir()
        elif kind == 3:
            file.symlink_to(rng.choice((file.name, "nowhere", "/dev/zero", "/dev/null", "..", "/dev/full")))
        elif kind == 4:
            os.mkfifo(file)
        elif kind == 5:
            shutil.rmtree(file.parent)  # with the others that lie there
            break


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """One to three values of a JSON value put in others' places, taken out or made odd; sometimes broken as text."""
    text = json.dumps(value)
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed(value, rng)
    data = json.dumps(value).encode()
    kind = rng.randrange(16)
    if kind == 0:
        return plain_damage(data, rng)
    if kind == 1:
        return rng.choice(NO_OBJECTS)
    if kind == 2:  # a name twice
        name, _, rest = data.partition(b'": ')
        return name + b'": ' + json.dumps(rng.choice(ODD_VALUES)).encode() + b", " + name[1:] + b'": ' + rest
    if kind == 3:  # a value that is nested deeply, or too large to be a number
        odd = rng.choice(
            (b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b"1" * 5000, b"-1e999")
        )
        return data.replace(b": ", b": " + odd + b', "x": ', 1)
    if kind == 4:  # other letters
        return rng.choice((b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), data.replace(b"a", b"\xed\xa0\x80")))
    if kind == 5:
        return data + rng.choice((b"}", b"\0", b"\n{}", b"\n" * 10_000))
    return data


def _changed(value: Any, rng: random.Random) -> Any:
    """`value` with one place in it, found by a random walk, that is different."""
    if isinstance(value, dict | list) and value and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if rng.random() < 0.1:
            del value[key]
        else:
            value[key] = _changed(value[key], rng)
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return value * rng.choice((0, -1, 2, 1000, 10**9)) + rng.choice((0, 1, -1))
    if isinstance(value, dict) and rng.random() < 0.3:
        return value | {rng.choice(KEYS): copy.deepcopy(rng.choice(ODD_VALUES))}
    return copy.deepcopy(rng.choice(ODD_VALUES))
