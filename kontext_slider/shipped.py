"""Where the files lie that come with the package: the pocket model and the example pictures.

A wheel has them inside the package (`setup.py` puts them there). In a clone of the repository they lie beside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The path of a file or folder such as "weights/pocket"; where there is none, the one that a clone would have."""
    installed = PACKAGE / name
    return installed if installed.exists() else PACKAGE.parent / name
