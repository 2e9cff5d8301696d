"""The recipe as a command: what it refuses before it begins, and what it writes when."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from kontext_slider.cli import main
from kontext_slider.train.pocket import recipe
from tests.tiny import tiny_image


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    tiny_image().save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--start", "nowhere"], "no pocket model .*--start"),
        (["--only", "measure", "--out", "nowhere"], "no pocket model .*--out"),
        (["--photos", "nowhere"], "no photographs in nowhere.*--photos"),
        (["--only", "measure", "--scenes-per-edit", "0"], "--scenes-per-edit is a number of at least 1"),
    ],
)
def test_what_would_fail_hours_later_is_said_at_once(tmp_path, photos, monkeypatch, capsys, flags, problem):
    """`make train` and a typing error: a traceback, after the training."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pocket", "--photos", str(photos), *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("kontext_slider.train.pocket", run_name="__main__")
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and re.search(problem, printed), printed
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_photographs_is_refused(tmp_path, capsys, monkeypatch):
    """Measured on no picture, and an IndexError after the scenes."""
    monkeypatch.setattr(sys, "argv", ["pocket", "--photos", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("kontext_slider.train.pocket", run_name="__main__")
    assert "no photographs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "folder"),
    [([], "runs/pocket/model"), (["--run", "runs/other"], "runs/other/model"), (["--out", "mine"], "mine")],
)
def test_training_writes_where_it_was_told_or_into_its_own_run(tmp_path, photos, monkeypatch, flags, folder):
    """`train` without --out put its model in the place of the shipped weights."""
    shipped = tmp_path / "weights" / "pocket"
    shipped.mkdir(parents=True)
    written = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "train_base", lambda run, folder: {})
    monkeypatch.setattr(recipe, "build_pipeline", lambda parts: None)
    monkeypatch.setattr(recipe, "train_slider", lambda pipe, run, folder: None)
    monkeypatch.setattr(recipe, "save", lambda pipe, base, slider, run, out: written.append(out))
    monkeypatch.setattr("kontext_slider.commands.train.training_section", lambda out: "")
    monkeypatch.setattr("kontext_slider.commands.train.measure", lambda out, *rest: written.append(out))
    assert main(["train", "--photos", str(photos), *flags]) == 0
    assert written == [Path(folder)] * 2 and not list(shipped.iterdir())
