"""The last line of every benchmark: its figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path


def print_line(line: dict, out: Path | None) -> None:
    """Print the figures in one line; with `out`, write them to that file as well."""
    print(json.dumps(line))
    if out:
        out.write_text(json.dumps(line, indent=1) + "\n", encoding="utf-8")
