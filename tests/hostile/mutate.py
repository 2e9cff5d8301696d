"""Damage to bytes and to JSON, drawn by a seeded generator."""

from __future__ import annotations

import copy
import json
import random
import struct
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

NO_OBJECTS = (b"[" * 100_000, b"1", b"null", b'"x"', b"", b"\xff\xfe", b'{"a":' * 50_000, b"9" * 10_000, b"NaN")


def damaged(data: bytes, rng: random.Random) -> bytes:
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


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """One to three values of a JSON value put in others' places, taken out or made odd; sometimes broken as text."""
    text = json.dumps(value)
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _changed(value, rng)
    data = json.dumps(value).encode()
    kind = rng.randrange(10)
    if kind == 0:
        return damaged(data, rng)
    if kind == 1:
        return rng.choice(
            (b"[" * 100_000, b"1", b"null", b'"x"', b"", b"\xff\xfe", b'{"a":' * 50_000, b"9" * 10_000, b"NaN")
        )
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
        return value | {rng.choice(("x", "", "extra_special_tokens", "dtype")): copy.deepcopy(rng.choice(ODD_VALUES))}
    return copy.deepcopy(rng.choice(ODD_VALUES))
