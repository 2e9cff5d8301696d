"""Plots by matplotlib: that they can be made, and what is said where they cannot."""

import sys

import pytest
from PIL import Image

from kontext_slider.cli import main
from kontext_slider.evaluate.plots import plot_curves, plot_strips
from kontext_slider.images import read_image


def test_curves_and_strips_are_written_under_their_names(tmp_path):
    """A report names its pictures."""
    curves = {f"method-{number}": [0, number / 20, number / 10] for number in range(14)}
    assert plot_curves(curves, "a title", tmp_path / "curves.png", "method-3") == "curves.png"
    rows = {name: [Image.new("RGB", (32, 32), (value, 0, 0)) for value in (0, 100, 200)] for name in ("ours", "other")}
    assert plot_strips(rows, ("source", 0.5, 1.0), "make it snow", tmp_path / "strips.jpg") == "strips.jpg"
    assert all(min(read_image(path).size) > 200 for path in tmp_path.iterdir())


def test_rows_of_a_strip_have_one_length(tmp_path):
    """A frame too few would put all that follow under another strength."""
    frames = [Image.new("RGB", (8, 8))] * 3
    with pytest.raises(ValueError):
        plot_strips({"ours": frames, "other": frames[:2]}, (0, 0.5, 1), "", tmp_path / "strips.jpg")


@pytest.mark.parametrize("flags", [["--edits", "1"], ["--pie-bench", "somewhere"]])
def test_missing_matplotlib_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys, flags):
    """A traceback of an import, after hours."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["evaluate", *flags, "--out", str(tmp_path)]) == 2
    assert 'pip install "kontext-slider[train]"' in capsys.readouterr().err
