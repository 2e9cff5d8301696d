"""Curves over the strength, and strips of frames side by side, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kontext_slider.errors import InvalidInput


def check_matplotlib() -> None:
    """InvalidInput, with the command that installs it, where matplotlib is missing. Call it before hours of work."""
    _figure(1, 1)


def plot_curves(curves: Mapping[str, Sequence[float]], title: str, path: Path, emphasis: str) -> str:
    """One line per name over strengths from 0 to 1 (first to last value of each); returns the file's name.

    `emphasis`: the curve that is drawn thick, on top of the others."""
    figure = _figure(9, 5)
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        width, order = (3.0, 3) if name == emphasis else (1.2, 2)
        look = "osv^<>DPX"[number % 9] + ("-" if number < 10 else "--")  # 9 marks and 10 colours: no two lines alike
        axes.plot(np.linspace(0, 1, len(curve)), curve, look, label=name, linewidth=width, zorder=order)
    top = max(1.05, 1.05 * min(2.0, max(max(curve) for curve in curves.values())))
    axes.set(title=title, xlabel="strength", xlim=(0, 1), ylim=(0, top))
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    return path.name


def plot_strips(
    rows: Mapping[str, Sequence[Image.Image]], columns: Sequence[float | str], title: str, path: Path
) -> str:
    """One row of frames per name, one column per strength or name, all rows of one length; returns the file's name."""
    figure = _figure(1.4 * len(columns) + 1.6, 1.4 * len(rows) + 0.6)
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, (name, frames) in zip(grid, rows.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for place, frame in zip(axes, frames, strict=True):
            place.imshow(np.asarray(frame))
            place.set(xticks=[], yticks=[])
    for place, column in zip(grid[0], columns, strict=True):
        place.set_title(column if isinstance(column, str) else f"{column:.2g}", fontsize=9)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    return path.name


def _figure(width: float, height: float) -> Any:
    """A figure of inches, which belongs to no window and to no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = 'Reports need matplotlib for their plots. Run: pip install "kontext-slider[train]"'
        raise InvalidInput(message) from error
    return Figure(figsize=(width, height), layout="constrained")
