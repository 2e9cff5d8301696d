"""ICC profiles of RGB spaces, for tests. Sources: ICC.1:2010, IEC 61966-2-1."""

from __future__ import annotations

import struct

import numpy as np

from kontext_slider.photo.colour import PRIMARIES

D50, SRGB_TO_D50 = (0.9642, 1.0, 0.8249), (0.4361, 0.3851, 0.1431, 0.2225, 0.7169, 0.0606, 0.0139, 0.0971, 0.7141)
P3_TO_D50 = (0.5151, 0.2920, 0.1571, 0.2412, 0.6922, 0.0666, -0.0011, 0.0419, 0.7841)  # as Apple's "Display P3" has it
SPACES = {1: SRGB_TO_D50, 12: P3_TO_D50}  # by the number of their primaries in ITU-T H.273


def matrix_profile(primaries: int, gamma: float | None, name: str) -> bytes:
    """A profile (version 4); gamma None stands for the curve of sRGB."""
    assert primaries in PRIMARIES
    colorants = np.array(SPACES[primaries]).reshape(3, 3)
    exponents = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045] if gamma is None else [gamma]
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0 if gamma else 3, 0) + _fixed(exponents)
    text = name.encode("utf-16-be")
    words = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = [(b"desc", words), (b"cprt", words), (b"wtpt", b"XYZ \0\0\0\0" + _fixed(D50))]
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants.T, strict=True)
    tags += [(key, b"XYZ \0\0\0\0" + _fixed(column)) for key, column in columns]
    tags += [(key, curve) for key in (b"rTRC", b"gTRC", b"bTRC")]
    table, body = struct.pack(">I", len(tags)), b""
    for key, data in tags:
        table += key + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    size = struct.pack(">I", 128 + len(table) + len(body))
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    header = size + b"\0\0\0\0\x04\x20\0\0mntrRGB XYZ " + date + b"acsp" + b"\0" * 28 + _fixed(D50)
    return header.ljust(128, b"\0") + table + body


def _fixed(values) -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
