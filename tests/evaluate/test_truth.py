"""Frames against the truth: the ruler itself."""

import json

import numpy as np
import pytest
from PIL import Image

from kontext_slider.errors import InvalidInput
from kontext_slider.evaluate.sheet import paste_rows
from kontext_slider.evaluate.truth import (
    Score,
    family,
    find_photos,
    photo_cases,
    score_truth,
    summary,
    table,
    working_edits,
    write_report,
)
from kontext_slider.world.cases import scene_cases
from tests.tiny import tiny_pipeline


def test_scenes_cover_every_edit_and_their_truth_starts_at_the_source():
    """A truth that is not the source at 0 would blame the model for the ruler's fault."""
    cases = list(scene_cases(1, 32))
    assert len({case.edit for case in cases}) == len(cases) >= 20
    for case in cases:
        assert np.abs(case.truth(0.0) - case.source).max() < 1e-5
        assert np.abs(case.truth(1.0) - case.source).max() > 1e-3


def test_the_seed_draws_the_scenes_and_their_noise(monkeypatch):
    """Without the seed's reach, a second measurement is the first again; seed 0's scenes are those of old tables."""
    asked = []
    monkeypatch.setattr(
        "kontext_slider.evaluate.truth.score_case", lambda pipe, case, _, seed: asked.append((case, seed)) or []
    )
    pipe = tiny_pipeline()
    score_truth(pipe, 1, [])
    score_truth(pipe, 1, [], seed=7)
    first, other = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert {seed for _, seed in first} == {0} and {seed for _, seed in other} == {7}
    for (case, _), (moved, _), known in zip(first, other, scene_cases(1, pipe.defaults.size), strict=True):
        assert case.truth == known.truth and case.edit == moved.edit and case.truth.scene != moved.truth.scene


def test_photographs_are_measured_at_the_working_size(tmp_path):
    """Measured at another size, the figures would not be those of what a person sees."""
    Image.new("RGB", (90, 60), (90, 140, 60)).save(tmp_path / "a.png")
    (tmp_path / "notes.md").write_text("not a photograph")
    cases = list(photo_cases(find_photos(tmp_path), 64, 16))
    assert {case.kind for case in cases} == {"photo"} and cases[0].source.shape == (48, 80, 3)


@pytest.mark.parametrize("name", ["", "nowhere", "notes.md"])
def test_a_folder_without_photographs_is_refused(tmp_path, name):
    """A path mistyped is a traceback, and a folder of other files a report that says nothing of photographs."""
    (tmp_path / "notes.md").write_text("not a photograph")
    with pytest.raises(InvalidInput, match="no photographs"):
        find_photos(tmp_path / name)


def test_the_report_averages_what_it_lists(tmp_path):
    """Colours are one row; a mean over the wrong strengths would flatter."""
    scores = [
        Score("scene", edit, s, db, 40.0, 18.0, s, s)
        for edit, db in (("recolour-red", 30.0), ("recolour-blue", 32.0), ("fog", 20.0))
        for s in (0.0, 0.5, 1.0)
    ]
    assert family("recolour-red") == "recolour" and family("taller-mountains") == "taller-mountains"
    lines = table(scores, "scene").splitlines()
    assert lines[2].startswith("| recolour | 31.0 | 31.0 | 31.0 | 40.0 | 18.0 | 0.50 (0.50)") and len(lines) == 5
    assert summary(scores)["scene_psnr_1"] == pytest.approx(27.33)
    assert working_edits(scores) == {"recolour"}, "fog is only 2 dB better than doing nothing"
    lucky = [Score("scene", "smaller", 1.0, db, 40.0, 20.0, 1.0, 1.0) for db in (20.5, 28.0)]
    assert working_edits(lucky) == set(), "+4 dB of two scenes is luck where they are 7.5 dB apart"
    write_report(scores, tmp_path, "the command")
    assert "the command" in (tmp_path / "truth.md").read_text()
    assert len([json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]) == 9


def test_the_contact_sheet_shows_every_frame():
    """A sheet that overlaps its frames hides the faults it is for."""
    frames = [Image.new("RGB", (20, 10), (40 * i, 0, 0)) for i in range(4)]
    sheet = paste_rows([frames, frames, frames])
    assert sheet.size == (2 * 4 * (288 + 4) + 4, 2 * 148 + 4)
    assert [sheet.getpixel((4 + i * 292 + 100, 60))[0] for i in range(4)] == [0, 40, 80, 120]
