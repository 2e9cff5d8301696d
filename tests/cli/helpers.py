"""Commands as a person types them, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

from kontext_slider.cli import main

SNOW = ["-i", "make it snow", "--device", "cpu"]
GPS_IFD, DATE_TIME = 0x8825, 0x0132  # of EXIF


def edit(photo: Path, out: Path, model: str, *flags: str) -> int:
    return main(["edit", str(photo), *SNOW, "-o", str(out), "--model", model, *flags])


def sweep_file(photo: Path, out: Path, model: str, *flags: str) -> Path:
    """The one file that a sweep of three strengths wrote."""
    assert main(["sweep", str(photo), *SNOW, "--out", str(out), "--model", model, "-n", "3", "--quiet", *flags]) == 0
    [path] = [path for path in out.iterdir() if path.name != "manifest.jsonl"]
    return path


def manifest(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def results(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name != "manifest.jsonl")


def run_sweep(images: Path | list[Path], out: Path, model: str, *flags: str) -> int:
    images = images if isinstance(images, list) else [images]
    return main(["sweep", *map(str, images), *SNOW, "--out", str(out), "--model", model, "-n", "3", *flags])


def status_of(words: list[str]) -> int | str | None:
    """The exit status, whether `main` returns it or argparse leaves with it."""
    try:
        return main(words)
    except SystemExit as leave:
        return leave.code
